"""The order of memory of maps (N, C, H, W), as torch would have it: real layers round differently in another one.

Where C or both sides are 1 both orders are contiguous, and only the strides tell which one an operation goes by.
"""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

Write = Literal["units", "scale", "norm", "pool", "add", "new"]
"""What writes a real activation: rounding to units, a scale for each channel, a normalization, pooling, a sum, a
threshold that writes a new tensor."""
Shape = tuple[int, ...]


def is_channels_last(x: Tensor) -> bool:
    """Whether torch takes maps to lie in channels-last memory, by their strides (`suggest_memory_format` in C++)."""
    least = 0
    for axis in (1, 3, 2, 0):
        if x.shape[axis] == 0 or x.stride(axis) < least or (axis == 0 and least == x.stride(1)):
            return False
        least = x.stride(axis) * max(x.shape[axis], 1)
    return True


def laid_out(x: Tensor, channels_last: bool) -> Tensor:
    """Maps with the strides of an order of memory; `contiguous` keeps others where a side is 1."""
    order = _order(channels_last)
    strides = torch.empty(x.shape, device="meta", memory_format=order).stride()
    if x.stride() == strides:
        return x
    if x.is_contiguous(memory_format=order):
        return x.as_strided(x.shape, strides)
    return torch.empty(x.shape, dtype=x.dtype, memory_format=order).copy_(x)


def is_channels_last_after(
    writes: tuple[Write, ...], shapes: tuple[Shape, Shape], is_last: bool, is_shortcut_last: bool = False
) -> bool:
    """Whether maps lie in channels-last memory after writes; `shapes` are theirs before and after pooling."""
    before, pooled = (tuple(min(size, 2) for size in shape) for shape in shapes)  # only sides of 1 are special
    return _is_channels_last_after(writes, before, pooled, is_last, is_shortcut_last)


@lru_cache(maxsize=1024)
def _is_channels_last_after(
    writes: tuple[Write, ...], before: Shape, pooled: Shape, is_last: bool, is_shortcut_last: bool
) -> bool:
    """Whether maps lie so after writes made for real, as operations on the meta device give other strides."""
    x = _zeros(before, is_last)
    for write in writes:
        if write == "scale":
            x = x * torch.zeros(x.shape[1], 1, 1)
        elif write == "add":
            x = x + _zeros(x.shape, is_shortcut_last)
        elif write == "units":  # rounds values near the grid, as FewBitLayer.sums does
            x = x + torch.where((x - x.round()).abs() < 1, x.round() - x, 0.0)
        elif write == "norm":
            x = nn.functional.batch_norm(x, torch.zeros(x.shape[1]), torch.ones(x.shape[1]))
        elif write == "new":
            x = x.ceil()
        else:
            x = _zeros(pooled, is_channels_last(x))
    return is_channels_last(x)


def _order(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _zeros(shape: Shape, channels_last: bool) -> Tensor:
    return torch.empty(shape, memory_format=_order(channels_last)).zero_()
