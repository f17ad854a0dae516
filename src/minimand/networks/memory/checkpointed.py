"""Blocks that are run again in the backward pass, from what they were asked at."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.fx import Proxy
from torch.utils.checkpoint import checkpoint

from ..._support.torch.places import check_unwritten, swapped, versions_of
from ...algorithms import leaves
from .replay import Run, buffers_of, first_run, parameters_of, second_run


def keeps_a_graph(x: Any) -> bool:
    """Whether a call records what its backward pass needs: not where it is traced, exported or without gradients."""
    is_read = isinstance(x, Proxy) or torch.jit.is_tracing() or torch.compiler.is_exporting()  # pyright: ignore
    return torch.is_grad_enabled() and not is_read


def checkpointed(module: nn.Module, call: Callable[[Any], Any], x: Any) -> Any:
    """What `call` gives for a tensor or state x, by `torch.utils.checkpoint`; running averages move once."""
    runs: list[Run] = []
    # `torch.func.functional_call` has others there for the forward pass alone.
    places, buffers = parameters_of(module), buffers_of(module)
    versions = versions_of(places)

    class _First:
        """Notes what the run began with; torch itself sees to random numbers."""

        def __enter__(self) -> None:
            self.context = first_run(module, leaves(x)[0].device, draws=False)
            runs.append(self.context.__enter__())

        def __exit__(self, *error: Any) -> None:
            self.context.__exit__(*error)

    class _Second:
        def __enter__(self) -> None:
            check_unwritten(places, versions)
            self.context = ExitStack()
            self.context.enter_context(swapped([*places, *buffers]))
            self.context.enter_context(second_run(module, runs[0]))

        def __exit__(self, *error: Any) -> None:
            self.context.__exit__(*error)

    return checkpoint(call, x, use_reentrant=False, context_fn=lambda: (_First(), _Second()))
