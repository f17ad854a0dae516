"""Fans: how many numbers a weight sums over, forward and backward, for every kind of layer.

torch counts both from the shape alone, which is wrong for grouped, transposed and strided convolutions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from ..._support.torch_internals import ConvNd
from ...networks.kinds import RECURRENT, is_transformers_linear

_PACKED = ("qkv", "in_proj", "query_key_value", "c_attn")


@dataclass(frozen=True)
class WeightBlock:
    """A part of a parameter that acts as one weight: a projection of packed attention, a gate, or all of it."""

    parameter: str
    """The name of the parameter within the layer."""
    rows: slice
    """The part of the parameter along its dimension of outputs, or of inputs of a transposed convolution."""
    fan_in: float
    fan_out: float
    groups: int = 1
    transposed: bool = False
    flipped: bool = False
    """Whether the parameter's first dimension is the input."""

    def of(self, parameter: Tensor) -> Tensor:
        """The block's part of its parameter: a view whose rows are outputs, or inputs of a transposed convolution."""
        return (parameter.T if self.flipped else parameter)[self.rows]

    def matrices(self, weight: Tensor) -> Tensor:
        """A tensor of the block's shape as matrices, (groups, outputs, inputs x taps): a view, or else a copy."""
        taps = weight.shape[2:].numel()
        if not self.transposed:
            return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        split = weight.reshape(self.groups, weight.shape[0] // self.groups, weight.shape[1], taps)
        return split.transpose(1, 2).reshape(self.groups, weight.shape[1], -1)

    def assign(self, weight: Tensor, matrices: Tensor) -> None:
        """Write matrices of the shape that `matrices` returns into a tensor of the block's shape."""
        if self.transposed:
            taps = weight.shape[2:].numel()
            matrices = matrices.reshape(self.groups, weight.shape[1], -1, taps).transpose(1, 2)
        with torch.no_grad():
            weight.copy_(matrices.reshape(weight.shape))


def weight_blocks(module: nn.Module, name: str = "") -> list[WeightBlock]:
    """The blocks of a layer's weights; `name` tells a linear layer that packs query, key and value."""
    return list(_blocks(module, name))


def _blocks(module: nn.Module, name: str) -> Iterator[WeightBlock]:
    if isinstance(module, ConvNd):
        yield _convolution(module)
    elif isinstance(module, nn.Bilinear):
        fan_in = module.in1_features * module.in2_features
        yield WeightBlock("weight", slice(None), fan_in, module.out_features)
    elif isinstance(module, nn.Linear):
        yield from _linear(name, module.out_features, module.in_features)
    elif is_transformers_linear(module):
        inputs, outputs = cast(Tensor, module.weight).shape
        yield from (replace(block, flipped=True) for block in _linear(name, outputs, inputs))
    elif isinstance(module, nn.MultiheadAttention):
        size = module.embed_dim
        if module.in_proj_weight is not None:
            yield from _stacked("in_proj_weight", 3, 3 * size, size)
        else:
            for part, inputs in (("q", size), ("k", module.kdim), ("v", module.vdim)):
                yield WeightBlock(f"{part}_proj_weight", slice(None), inputs, size)
        yield WeightBlock("out_proj.weight", slice(None), size, size)
    elif isinstance(module, RECURRENT):
        for parameter, weight in module.named_parameters():
            if parameter.startswith("weight_hr"):
                yield WeightBlock(parameter, slice(None), weight.shape[1], weight.shape[0])
            elif parameter.startswith("weight"):
                yield from _stacked(parameter, weight.shape[0] // module.hidden_size, *weight.shape)


def _linear(name: str, outputs: int, inputs: int) -> Iterator[WeightBlock]:
    return _stacked("weight", 3 if name.endswith(_PACKED) and outputs == 3 * inputs else 1, outputs, inputs)


def _stacked(parameter: str, count: int, rows: int, columns: int) -> Iterator[WeightBlock]:
    size = rows // count
    for i in range(count):
        yield WeightBlock(parameter, slice(i * size, (i + 1) * size), columns, size)


def _convolution(module: ConvNd) -> WeightBlock:
    taps, strides = math.prod(module.kernel_size), math.prod(module.stride)
    fan_in = module.in_channels // module.groups * taps
    fan_out = module.out_channels // module.groups * taps
    # Of a strided kernel's taps an input meets one in `strides`; of a transposed one's an output does.
    if module.transposed:
        return WeightBlock("weight", slice(None), fan_in / strides, fan_out, module.groups, True)
    return WeightBlock("weight", slice(None), fan_in, fan_out / strides, module.groups)
