"""Every private attribute of torch that minimand uses, in one place.

Tried on torch 2.13.0 (CPU). None of them is promised to stay: a new torch is checked here first.
"""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

__all__ = [
    "BatchNorm",
    "ConvNd",
    "ConvTransposeNd",
    "InstanceNorm",
    "NormBase",
    "TreeSpec",
    "storage_key",
    "tree_flatten",
    "tree_unflatten",
    "uncompiled",
    "version_of",
]


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` was given; a module that was not compiled itself."""
    return getattr(model, "_orig_mod", model)


def version_of(tensor: Tensor) -> int:
    """The number of times that the content of a tensor has been changed in place."""
    return tensor._version


def storage_key(tensor: Tensor) -> int:
    """The number that tells the storage of a tensor from all others that exist at the time."""
    return tensor.untyped_storage()._cdata
