"""Every private attribute of torch that minimand uses, in one place.

Tried on torch 2.13.0 (CPU). None of them is promised to stay: a new torch is checked here first.
"""

from typing import Any

from torch import Tensor, nn
from torch._C import DisableTorchFunction as DisableTorchFunction
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map

__all__ = [
    "BatchNorm",
    "ConvNd",
    "ConvTransposeNd",
    "DisableTorchFunction",
    "InstanceNorm",
    "NormBase",
    "tree_leaves",
    "tree_map",
]


def version(x: Tensor) -> int:
    """The number of times that a tensor was written into."""
    return x._version


def base(x: Tensor) -> Tensor:
    """The tensor that another is a view of; a tensor that is no view itself."""
    return x if x._base is None else x._base


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """The parameters of a module itself by name, the dictionary that it keeps them in."""
    return module._parameters


def own_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """The buffers of a module itself by name, the dictionary that it keeps them in."""
    return module._buffers


def own_modules(module: nn.Module) -> dict[str, nn.Module | None]:
    """The children of a module by name, the dictionary that it keeps them in."""
    return module._modules


def forward_hook_tables(module: nn.Module) -> tuple[dict[int, Any], dict[int, Any]]:
    """The dictionaries in which a module keeps its forward pre-hooks and its forward hooks."""
    return module._forward_pre_hooks, module._forward_hooks
