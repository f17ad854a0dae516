"""Every private attribute of torch that minimand uses, in one place.

Tried on torch 2.13.0 (CPU). None of them is promised to stay: a new torch is checked here first.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.utils._pytree import (
    TreeSpec,
    tree_flatten,
    tree_leaves,
    tree_map,
    tree_map_only,
    tree_structure,
    tree_unflatten,
)

__all__ = [
    "BatchNorm",
    "ConvNd",
    "ConvTransposeNd",
    "InstanceNorm",
    "ModuleSnapshot",
    "NormBase",
    "TreeSpec",
    "own_parameters",
    "storage_key",
    "tree_flatten",
    "tree_leaves",
    "tree_map",
    "tree_map_only",
    "tree_structure",
    "tree_unflatten",
    "uncompiled",
    "version_of",
]


def own_parameters(module: nn.Module) -> dict[str, Any]:
    """The parameters that a module holds itself, as the dictionary that torch reads and writes."""
    return module._parameters


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` was given; any other module as it is."""
    return getattr(model, "_orig_mod", model)


def version_of(tensor: Tensor) -> int:
    """The number of times that the content of a tensor has been changed in place."""
    return tensor._version


def storage_key(tensor: Tensor) -> int:
    """The number that tells the storage of a tensor from all others that exist at the time."""
    return tensor.untyped_storage()._cdata


@dataclass(frozen=True)
class ModuleSnapshot:
    """A module as it was before `fully_shard` (FSDP2) changed it, which has no way back of its own.

    FSDP gives a module another class, and replaces its parameters and hooks.
    """

    module: nn.Module
    kind: type[nn.Module]
    names: frozenset[str]
    parameters: dict[str, Any]
    dictionaries: dict[str, dict[Any, Any]]
    """The parameters and hooks of the module, by the name of its attribute."""

    @classmethod
    def of(cls, module: nn.Module) -> "ModuleSnapshot":
        """Take the snapshot of a module."""
        attributes = vars(module)
        copies = {k: dict(v) for k, v in attributes.items() if k == "_parameters" or "hooks" in k}
        return cls(module, type(module), frozenset(attributes), copies["_parameters"], copies)

    def restore(self) -> None:
        """Make the module what it was."""
        from torch.distributed._composable_state import _module_state_mapping

        self.module.__class__ = self.kind
        for name in vars(self.module).keys() - self.names:
            if "fsdp" in name or "contract" in name or "composable" in name:
                del self.module.__dict__[name]
        for name, before in self.dictionaries.items():  # in place: a hook's handle knows the very dictionary
            vars(self.module)[name].clear()
            vars(self.module)[name].update(before)
        _module_state_mapping.pop(self.module, None)  # else it could not be sharded again
