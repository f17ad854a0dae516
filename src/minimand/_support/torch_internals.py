"""Every private attribute of torch that minimand uses, in one place.

Tried on torch 2.13.0 (CPU). None of them is promised to stay: a new torch is checked here first.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd as DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd as AdaptiveAvgPoolNd
from torch.nn.modules.pooling import _AvgPoolNd as AvgPoolNd
from torch.nn.modules.pooling import _MaxPoolNd as MaxPoolNd

__all__ = [
    "AdaptiveAvgPoolNd",
    "AvgPoolNd",
    "BatchNorm",
    "ConvNd",
    "ConvTransposeNd",
    "DropoutNd",
    "InstanceNorm",
    "MaxPoolNd",
    "NormBase",
    "int8_product",
    "uncompiled",
]


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` was given; a module that was not compiled itself."""
    return getattr(model, "_orig_mod", model)


def int8_product(x: Tensor, y: Tensor) -> Tensor:
    """The product of two matrices of int8, int32 and exact."""
    return torch._int_mm(x, y)  # pyright: ignore[reportPrivateImportUsage]
