"""torch.compile, for networks whose blocks end in an activation."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .._support.torch_internals import uncompiled


def compiled(model: nn.Module, **options: Any) -> nn.Module:
    """`torch.compile(model)`, whose backward pass on a CPU computes again what it can from what is kept anyway.

    In a ResNet a block's last ReLU is read by the next block, which keeps it; under another algorithm a combination is
    read, and torch.compile keeps the mask of the ReLU besides, as it deems its inputs too far away to compute it
    again. Storing masks costs a third of a training step on a CPU. On a GPU this is torch.compile.

    Args:
        model: any module; it is run where its parameters are.
        **options: of torch.compile, such as `fullgraph=True`.
    """
    return cast(nn.Module, torch.compile(model, backend=_backend, **options))


def _backend(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    from torch._functorch import config
    from torch._inductor.compile_fx import compile_fx

    on_cpu = all(x.device.type == "cpu" for x in inputs if isinstance(x, Tensor))
    with config.patch(ban_recompute_used_far_apart=config.ban_recompute_used_far_apart and not on_cpu):
        return cast(Callable[..., Any], compile_fx(graph, list(inputs)))


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that DistributedDataParallel or torch.compile wrapped; any other module as it is."""
    model = uncompiled(model)
    return model.module if isinstance(model, DistributedDataParallel) else model
