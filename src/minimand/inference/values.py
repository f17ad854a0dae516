"""What the nodes of a graph stand for while it is lowered, and what thresholds see through them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from ..layers.thresholds import Threshold
from ..layers.weight_bits import FewBitLayer
from .memory import Write, is_channels_last
from .steps import Geometry, PackedLayer, Pooling

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, eq=False)
class Real:
    """A real value: a node of the new graph."""

    node: fx.Node


@dataclass(frozen=True, eq=False)
class Levels:
    """Activations of few levels, as the bits of a threshold hold them."""

    node: fx.Node
    levels: Tensor
    """The values of the levels, (L, C), or (L, 1) where all channels have the same."""
    threshold: Threshold
    channels: int | None = None
    """The number of channels, where it is known."""


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of a layer of few bits, before they are scaled."""

    levels: Levels
    layer: FewBitLayer
    name: str


@dataclass(frozen=True, eq=False)
class MonotoneChain:
    """A value and links to apply to it, monotone in each channel: normalization, max pooling, adding a shortcut."""

    base: Real | Sums
    links: tuple[nn.BatchNorm1d | nn.BatchNorm2d | nn.MaxPool2d | Levels, ...] = ()

    def has(self, kind: type) -> bool:
        """Whether a link is of a kind."""
        return any(isinstance(link, kind) for link in self.links)


def lowest(threshold: Threshold) -> int | None:
    """The multiple of the unit that a bit stands for which is not set: -1 or 0; None if it is another."""
    if threshold.low == 0:
        return 0
    return -1 if threshold.levels == 2 and threshold.low == -threshold.high else None


def packed_layer(base: Sums, thresholds: Tensor | None = None, **cut: Any) -> PackedLayer:
    """The step that computes sums and compares them with thresholds, or, without any, scales them."""
    layer = base.layer
    geometry = None
    if isinstance(layer, nn.Conv2d):
        geometry = cast(Geometry, (layer.stride, padding_of(layer), layer.dilation, layer.groups))
    is_real = thresholds is None
    integers = layer.integers()
    return PackedLayer(
        integers.to(torch.int8),
        (layer.unit * layer.scale()).flatten() if is_real else None,
        layer.bias.detach() if is_real and layer.bias is not None else None,
        thresholds,
        **{"flip": None, "after": None, "pooling": None, "writes": ("scale",), **cut},
        bits=layer.bits,
        geometry=geometry,
        low=cast(int, lowest(base.levels.threshold)),
        reads=() if layer.unit == 1 else ("units",),
        weight_last=integers.ndim == 4 and is_channels_last(integers),
    )


def writes_of(links: tuple[Any, ...], threshold: Threshold) -> tuple[Write, ...]:
    """What writes the real activation of a threshold behind links."""
    names: list[Write] = [
        "add" if isinstance(link, Levels) else "pool" if isinstance(link, nn.MaxPool2d) else "norm" for link in links
    ]
    # Some thresholds write into their input, others a new tensor; where it matters is where all sides are 1.
    strides = (3, 1, 3, 3)
    z = torch.empty_strided((2, 3, 1, 1), strides).zero_()
    return (*names, *(["new"] if threshold.values(z).stride() != strides else []))


def bound_of(layer: FewBitLayer, threshold: Threshold) -> Tensor:
    """The largest absolute value of each output's sum, (O,)."""
    return layer.integers().abs().flatten(1).sum(1).long() * (threshold.levels - 1)


def applied(z: Tensor, links: tuple[Any, ...], row: Tensor | None = None) -> Tensor:
    """One value a channel after the links: pooling leaves it, and a shortcut adds `row`."""
    for link in links:
        if isinstance(link, Levels):
            z = z + cast(Tensor, row).view(z.shape)
        elif isinstance(link, NORMS):
            z = link(z)
    return z


def shaped(values: Tensor, maps: bool) -> Tensor:
    """One value a channel as a batch of one vector, or of one map of one pixel."""
    return values.view(1, -1, 1, 1) if maps else values[None]


def directions(links: tuple[Any, ...], channels: int) -> tuple[Tensor, Tensor, Any]:
    """Whether links rise in each channel, whether they fall after pooling, and the pooling, if there is one."""
    rises, after, pooling = torch.ones(channels, dtype=torch.bool), torch.zeros(channels, dtype=torch.bool), None
    for link in links:
        if isinstance(link, nn.MaxPool2d):
            pooling = pooling_of(link)
        elif isinstance(link, NORMS) and link.weight is not None:
            falls = link.weight.detach() < 0
            rises ^= falls
            after ^= falls & (pooling is not None)
    return rises, after, pooling


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def is_poolable(pool: nn.MaxPool2d) -> bool:
    """Whether bits can be pooled as a module pools real values."""
    return _pair(pool.dilation) == (1, 1) and not pool.ceil_mode and not pool.return_indices


def pooling_of(pool: nn.MaxPool2d) -> Pooling:
    """The kernel, stride and padding of a module."""
    return _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)


def padding_of(layer: nn.Conv2d) -> tuple[int, int] | None:
    """The zeros that a convolution pads each side with; None where it pads with something else."""
    if layer.padding_mode != "zeros":
        return None
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return None if spans[0] % 2 or spans[1] % 2 else (spans[0] // 2, spans[1] // 2)
    return cast(tuple[int, int], layer.padding)


LARGEST = 0x7F7FFFFF
"""The key of the largest float."""


def jumps_of(count: Callable[[Tensor], Tensor], bound: Tensor, rises: Tensor, jumps: int) -> tuple[Tensor, Tensor]:
    """The largest key t before each jump of each channel, int64 (jumps, C): jumps are below k where (k > t) xor flip.

    `count` is the number of jumps below keys, (C,), monotone in each channel; keys are at most `bound` by size.
    """
    sign = torch.where(rises, 1, -1)
    last_keys = []
    for j in range(jumps):
        low, high = -bound - 1, bound + 1  # the count is taken to be at most j at low, above it at high
        while bool((open_ := high - low > 1).any()):
            middle = (low + high) // 2
            above = count(sign * middle) > j
            high, low = torch.where(open_ & above, middle, high), torch.where(open_ & ~above, middle, low)
        last_keys.append(torch.where(rises, low, -low - 1))
    return torch.stack(last_keys), ~rises


def float_of(keys: Tensor) -> Tensor:
    """The floats of keys: integers in the order of the floats, neighbours where the floats are."""
    return torch.where(keys < 0, -1.0, 1.0) * keys.abs().to(torch.int32).view(torch.float32)
