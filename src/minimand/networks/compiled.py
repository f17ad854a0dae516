"""torch.compile, for networks whose blocks end in an activation, and the module inside a wrapped one."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .._support.torch.internals import compile_graph, uncompiled


def compiled(model: nn.Module, **options: Any) -> nn.Module:
    """The model under `torch.compile`; on a CPU the backward pass computes again what it can from what is kept anyway.

    In a ResNet a block's last ReLU is read by the next block, which keeps it; under another algorithm a combination is
    read, and torch.compile keeps the mask of the ReLU besides, as it deems its inputs too far away to compute it
    again. Storing masks costs a third of a training step on a CPU. On a GPU this is torch.compile, whose options it
    takes, such as `fullgraph=True`.
    """
    return cast(nn.Module, torch.compile(model, backend=_backend, **options))


def _backend(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    on_cpu = all(x.device.type == "cpu" for x in inputs if isinstance(x, Tensor))
    return compile_graph(graph, inputs, recompute_far=on_cpu)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` or DistributedDataParallel was given; a module that is not wrapped itself."""
    module = uncompiled(model)
    return module.module if isinstance(module, DistributedDataParallel) else module
