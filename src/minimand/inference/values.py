"""What the nodes of a graph stand for while it is lowered, and what thresholds see through them."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from ..layers.thresholds import Threshold
from ..layers.weight_bits import FewBitLayer
from .steps import Geometry, PackedLayer, Pooling

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, eq=False)
class Real:
    """A real value: a node of the new graph."""

    node: fx.Node


@dataclass(frozen=True, eq=False)
class Levels:
    """Activations of few levels."""

    node: fx.Node
    levels: Tensor
    """(L, C), or (L, 1)."""
    threshold: Threshold
    channels: int | None = None
    """Where they are known."""


@dataclass(frozen=True, eq=False)
class Sums:
    """What a layer of few bits gives, before it is scaled."""

    levels: Levels
    layer: FewBitLayer
    name: str


@dataclass(frozen=True, eq=False)
class Chain:
    """Links that are yet to be applied, monotone in each channel: normalization, max pooling, adding a shortcut."""

    base: Real | Sums
    links: tuple[nn.BatchNorm1d | nn.BatchNorm2d | nn.MaxPool2d | Levels, ...] = ()

    def has(self, kind: type) -> bool:
        """Whether a link is of a kind."""
        return any(isinstance(link, kind) for link in self.links)

    @property
    def is_pending(self) -> bool:
        """Whether there is something to compute before the chain is a real value."""
        return bool(self.links) or isinstance(self.base, Sums)


def lowest(threshold: Threshold) -> int | None:
    """What a bit that is not set stands for, as a multiple of the unit: -1 or 0; None if it is another."""
    if threshold.low == 0:
        return 0
    return -1 if threshold.levels == 2 and threshold.low == -threshold.high else None


def packed_layer(base: Sums, thresholds: Tensor | None = None, **cut: Any) -> PackedLayer:
    layer = base.layer
    geometry = None
    if isinstance(layer, nn.Conv2d):
        geometry = cast(Geometry, (layer.stride, padding_of(layer), layer.dilation, layer.groups))
    real = thresholds is None
    return PackedLayer(
        layer.integers().to(torch.int8),
        (layer.unit * layer.scale()).flatten() if real else None,
        layer.bias.detach() if real and layer.bias is not None else None,
        thresholds,
        **{"flip": None, "after": None, "pooling": None, **cut},
        bits=layer.bits,
        geometry=geometry,
        low=cast(int, lowest(base.levels.threshold)),
    )


def bound_of(layer: FewBitLayer, threshold: Threshold) -> Tensor:
    """(O,): the largest absolute value of a sum."""
    return layer.integers().abs().flatten(1).sum(1).long() * (threshold.levels - 1)


def applied(z: Tensor, links: tuple[Any, ...], row: Tensor | None = None) -> Tensor:
    """The links for one value a channel; pooling leaves it, and what a shortcut adds is `row`."""
    for link in links:
        if isinstance(link, Levels):
            z = z + cast(Tensor, row).view(z.shape)
        elif isinstance(link, NORMS):
            z = link(z)
    return z


def shaped(values: Tensor, maps: bool) -> Tensor:
    return values.view(1, -1, 1, 1) if maps else values[None]


def directions(links: tuple[Any, ...], channels: int) -> tuple[Tensor, Tensor, Any]:
    """Whether the links rise, and fall after pooling, in each channel; the pooling, if there is one."""
    rises, after, pooling = torch.ones(channels, dtype=torch.bool), torch.zeros(channels, dtype=torch.bool), None
    for link in links:
        if isinstance(link, nn.MaxPool2d):
            pooling = pooling_of(link)
        elif isinstance(link, NORMS) and link.weight is not None:
            falls = link.weight.detach() < 0
            rises ^= falls
            after ^= falls & (pooling is not None)
    return rises, after, pooling


def some(mask: Tensor) -> Tensor | None:
    return mask if mask.any() else None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def is_poolable(pool: nn.MaxPool2d) -> bool:
    return _pair(pool.dilation) == (1, 1) and not pool.ceil_mode and not pool.return_indices


def pooling_of(pool: nn.MaxPool2d) -> Pooling:
    return _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)


def padding_of(layer: nn.Conv2d) -> tuple[int, int] | None:
    """The zeros on each side; None where there is something else."""
    if layer.padding_mode != "zeros":
        return None
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return None if spans[0] % 2 or spans[1] % 2 else (spans[0] // 2, spans[1] // 2)
    return cast(tuple[int, int], layer.padding)
