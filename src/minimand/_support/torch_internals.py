"""Every private attribute of torch that minimand uses, in one place.

Tried on torch 2.13.0 (CPU). None of them is promised to stay: a new torch is checked here first.
"""

import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm

__all__ = ["BatchNorm", "ConvNd", "ConvTransposeNd", "InstanceNorm", "NormBase", "storage_key"]


def storage_key(storage: torch.UntypedStorage) -> int:
    """A number that tells a storage from all others that exist, on the meta device too (`_cdata`)."""
    return storage._cdata
