"""What becomes of each kind of module, and of each call, where a hardened model is lowered to bits."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from ..layers.thresholds import Threshold
from ..layers.weight_bits import FewBitLayer, few_bit_weight
from .lower import IDENTITIES, Lowering, Value, lowers
from .read import graph_of
from .steps import AsVectors, PackReal, Pool, Shortcut
from .values import (
    LARGEST,
    NORMS,
    Levels,
    MonotoneChain,
    Real,
    Sums,
    applied,
    bound_of,
    directions,
    float_of,
    is_poolable,
    jumps_of,
    lowest,
    packed_layer,
    padding_of,
    pooling_of,
    shaped,
    writes_of,
)

_EXACT = 2**24
"""Integers below are exact in float32."""


def lower(model: nn.Module, weight_bits: int | None) -> Lowering:
    """A hardened model's graph, lowered by the rules of this file; the model's layers may be rounded by it."""
    lowering = Lowering(model, weight_bits)
    lowering.run(graph_of(model))
    return lowering


@lowers(*IDENTITIES, bits="forwards")
def _identity(lowering: Lowering, node: fx.Node, module: nn.Module, value: Value | None) -> Value | None:
    return value


@lowers(Threshold, bits="neither")
def _threshold(lowering: Lowering, node: fx.Node, threshold: Threshold, value: Value | None) -> Levels | Real:
    name, cut = str(node.target), lowering.chain(node, value)
    levels = threshold.from_codes(torch.arange(threshold.levels), torch.float32)[:, None]
    if isinstance(cut.base, Sums):
        step, inputs = _cut_sums(cut.base, cut.links, threshold)
        channels = len(cut.base.layer.weight)
        return Levels(lowering.step(f"{cut.base.name} to {name}", step, *inputs), levels, threshold, channels)
    if not any(user in lowering.takes_bits for user in node.users):
        return Real(lowering.add(name, threshold, lowering.real_of(cut)))
    channels = next((link.num_features for link in cut.links if isinstance(link, NORMS)), None)
    step = _cut_real(cut.links, threshold, channels or 1, not cut.links and lowering.feeds_vectors(node))
    return Levels(lowering.step(name, step, cut.base), levels, threshold, channels)


def _cut_real(links: tuple[Any, ...], threshold: Threshold, channels: int, last: bool) -> PackReal:
    """The step from real values to the bits of a threshold that follows the links."""
    rises, after, pooling = directions(links, channels)

    def below(keys: Tensor) -> Tensor:
        maps = any(isinstance(link, nn.BatchNorm2d) for link in links)
        return threshold.codes(threshold.values(applied(shaped(float_of(keys), maps), links))).view(-1)

    keys, flip = jumps_of(below, torch.full((channels,), LARGEST), rises, threshold.levels - 1)
    return PackReal(float_of(keys), flip ^ after, after, pooling, last, writes_of(links, threshold))


def _cut_sums(base: Sums, links: tuple[Any, ...], threshold: Threshold) -> tuple[nn.Module, list[Levels]]:
    """The step from bits to the bits of a threshold that follows a layer and the links, and what the step takes."""
    layer = base.layer
    channels = len(layer.weight)
    rises, after, pooling = directions(links, channels)
    shortcuts = [link for link in links if isinstance(link, Levels)]
    rows = list(shortcuts[0].levels.expand(-1, channels)) if shortcuts else [None]
    bound = bound_of(layer, base.levels.threshold)

    def jumps_with(row: Tensor | None) -> tuple[Tensor, Tensor]:
        def below(keys: Tensor) -> Tensor:
            z = layer.scaled(shaped(keys.float(), isinstance(layer, nn.Conv2d)))
            return threshold.codes(threshold.values(applied(z, links, row))).view(-1)

        return jumps_of(below, bound, rises, threshold.levels - 1)

    limits, flips = zip(*map(jumps_with, rows), strict=True)
    thresholds = torch.stack(limits).int()
    writes = ("scale", *writes_of(links, threshold))
    step = packed_layer(base, thresholds=thresholds, flip=flips[0] ^ after, after=after, pooling=pooling, writes=writes)
    return step, [base.levels, *shortcuts]


@lowers(nn.Linear, nn.Conv2d, bits="computes")
def _layer(
    lowering: Lowering, node: fx.Node, module: nn.Linear | nn.Conv2d, value: Value | None
) -> MonotoneChain | None:
    name = str(node.target)
    if isinstance(value, Levels):
        layer = _few_bits(lowering, node, module, value)
        return MonotoneChain(Sums(value, layer, name)) if layer else None
    if node in lowering.before & lowering.behind and not isinstance(module, FewBitLayer):
        lowering.waiting.append(name)
    return None


def _few_bits(lowering: Lowering, node: fx.Node, module: nn.Linear | nn.Conv2d, value: Levels) -> FewBitLayer | None:
    """The layer, if it can run on these bits; one of real weights is rounded, if that is asked for."""
    threshold = value.threshold
    is_padded = value.levels.shape[1] > 1
    if is_padded or lowest(threshold) is None or (isinstance(module, nn.Conv2d) and padding_of(module) is None):
        return None
    layer = module if isinstance(module, FewBitLayer) else None
    if layer is None:
        if node not in lowering.before or lowering.weight_bits is None:
            return None
        layer = few_bit_weight(module, lowering.weight_bits)
        lowering.model.set_submodule(str(node.target), layer)
    layer.unit = threshold.unit
    return layer if int(bound_of(layer, threshold).max()) < _EXACT else None


@lowers(nn.MaxPool2d, bits="forwards")
def _max_pooling(lowering: Lowering, node: fx.Node, module: nn.MaxPool2d, value: Value | None) -> Value | None:
    if not is_poolable(module):
        return None
    if isinstance(value, Levels):
        return replace(value, node=lowering.step(str(node.target), Pool(pooling_of(module)), value))
    if isinstance(value, MonotoneChain) and not value.has(nn.MaxPool2d) and not value.has(Levels):
        return MonotoneChain(value.base, (*value.links, module))
    return MonotoneChain(Real(lowering.real(node.args[0])), (module,))


@lowers(*NORMS, bits="neither")
def _normalization(lowering: Lowering, node: fx.Node, module: Any, value: Value | None) -> MonotoneChain | None:
    if module.running_var is None or isinstance(value, Levels):
        return None
    before = lowering.chain(node, value)
    fits = isinstance(before.base, Real) or isinstance(module, nn.BatchNorm1d) == isinstance(
        before.base.layer, nn.Linear
    )
    return MonotoneChain(before.base, (*before.links, module)) if fits else None


@lowers(nn.Flatten, "flatten", bits="forwards")
def _flatten(lowering: Lowering, node: fx.Node, module: nn.Flatten | None, value: Value | None) -> Levels | None:
    if module is not None:
        name, flattens_samples = str(node.target), (module.start_dim, module.end_dim) == (1, -1)
    else:
        name, flattens_samples = node.name, tuple(node.args[1:]) in ((1,), (1, -1)) and not node.kwargs
    if not flattens_samples or not isinstance(value, Levels) or value.levels.shape[1] > 1:
        return None
    step = AsVectors(getattr(module, "features", None), getattr(module, "image_size", None))
    return Levels(lowering.step(name, step, value), value.levels, value.threshold)


@lowers("add", bits="forwards")
def _sum_with_shortcut(lowering: Lowering, node: fx.Node, module: None, value: Value | None) -> MonotoneChain | None:
    if len(node.args) != 2 or node.kwargs not in ({}, {"alpha": 1}):
        return None
    terms = [lowering.values.get(n) if isinstance(n, fx.Node) else None for n in cast(tuple[Any, Any], node.args)]
    chains = [term for term in terms if isinstance(term, MonotoneChain) and isinstance(term.base, Sums)]
    shortcuts = [term for term in terms if isinstance(term, Levels)]
    if chains and shortcuts and not chains[0].has(Levels) and not chains[0].has(nn.MaxPool2d):
        return MonotoneChain(chains[0].base, (*chains[0].links, shortcuts[0]))
    return None


@lowers("getitem", bits="forwards")
def _every_other_pixel(lowering: Lowering, node: fx.Node, module: None, value: Value | None) -> Levels | None:
    """x[:, :, ::s, ::t], in a shortcut without parameters."""
    index = node.args[1]
    if not isinstance(value, Levels) or value.levels.shape[1] > 1:
        return None
    if not isinstance(index, tuple) or len(index) != 4 or index[:2] != (slice(None),) * 2:
        return None
    strides = [i.step for i in index[2:] if isinstance(i, slice) and (i.start, i.stop) == (None, None)]
    if len(strides) != 2 or not all(isinstance(stride, int) for stride in strides):
        return None
    return replace(value, node=lowering.step(node.name, Shortcut((strides[0], strides[1]), 0, 0), value))


@lowers("pad", bits="forwards")
def _channels_of_zeros(lowering: Lowering, node: fx.Node, module: None, value: Value | None) -> Levels | None:
    """Channels of zeros before and after, in a shortcut without parameters."""
    zeros = node.kwargs.get("mode", "constant") == "constant" and not node.kwargs.get("value")
    sides = node.args[1] if len(node.args) == 2 else None
    if not isinstance(value, Levels) or value.levels.shape[1] > 1 or not zeros or not isinstance(sides, tuple):
        return None
    *around, before, after = cast(tuple[int, ...], sides)
    if around != [0, 0, 0, 0] or min(before, after) < 0 or not value.channels:
        return None
    levels = nn.functional.pad(value.levels.expand(-1, value.channels), (before, after))
    return Levels(lowering.step(node.name, Shortcut((1, 1), before, after), value), levels, value.threshold)
