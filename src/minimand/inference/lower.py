"""From the graph of a hardened model to one that runs on bits.

What becomes of a module, or of a call, is told by one function, found by the module's type or by the called name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain, count
from operator import attrgetter
from typing import Any, Literal, cast

import torch
from torch import Tensor, fx, nn

from .._support.errors import MinimandError
from ..layers.thresholds import Threshold
from ..layers.weight_bits import FewBitLayer, few_bit_weight
from ..networks.kinds import ACTIVATION_FUNCTIONS, ACTIVATIONS
from .read import function_name, reachable
from .steps import AsVectors, PackReal, Pool, Shortcut, Unpack
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

Value = Real | Levels | MonotoneChain
_ACTIVATION_FUNCTIONS = ACTIVATION_FUNCTIONS.keys() - {"arctan", "erf", "linear", "sigmoid", "sin"}
_EXACT = 2**24
"""Integers below are exact in float32."""

Role = Literal["computes", "forwards", "neither"]


@dataclass(frozen=True)
class Rule:
    """How a kind of node is lowered, and what it does with bits before it: a layer of few bits computes with them.

    `lower` takes (lowering, node, the module that the node calls or None, its first argument as it was lowered) and
    gives what the node stands for; None leaves the node as it is, on real values.
    """

    lower: Callable[..., Value | None]
    bits: Role


RULES: dict[type[nn.Module] | str, Rule] = {}
"""The rule of each type of module, its subclasses included, and of each function or method, by its bare name."""


def lowers(*kinds: type[nn.Module] | str, bits: Role) -> Callable[..., Any]:
    """A decorator that makes a function the rule of types of modules and of names of functions."""

    def decorate(function: Callable[..., Value | None]) -> Callable[..., Value | None]:
        RULES.update(dict.fromkeys(kinds, Rule(function, bits)))
        return function

    return decorate


@dataclass
class Lowering:
    """A pass over the graph of a model: what becomes of it is in `root` and `graph`."""

    model: nn.Module
    weight_bits: int | None
    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=fx.Graph)
    labels: dict[str, str] = field(default_factory=dict)
    """The places of the steps in the model, by their names in `root`."""
    waiting: list[str] = field(default_factory=list)
    """The names of layers of real weights between thresholds."""

    def run(self, graph: fx.Graph) -> None:
        """Lower every node of the model's graph."""
        self.values: dict[fx.Node, Value] = {}
        self.before = reachable(reversed(graph.nodes), self._is_threshold, lambda node: node.users)
        self.behind = reachable(graph.nodes, self._is_threshold, lambda node: node.all_input_nodes)
        self.takes_bits: set[fx.Node] = set()
        for node in reversed(graph.nodes):
            if self._does_take_bits(node):
                self.takes_bits.add(node)
        for node in graph.nodes:
            if node.op == "output":
                self.graph.output(fx.map_arg(node.args[0], lambda n: self.real(n)))
            else:
                value = self._lower(node)
                if isinstance(value, MonotoneChain) and len(node.users) > 1:
                    value = Real(self.real_of(value))
                self.values[node] = value

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls; None where it calls none."""
        return self.model.get_submodule(cast(str, node.target)) if node.op == "call_module" else None

    def real(self, node: Any) -> fx.Node:
        """The new node of a node's real value."""
        value = self.values[node]
        return value.node if isinstance(value, Real) else self.real_of(value)

    def real_of(self, value: Levels | MonotoneChain) -> fx.Node:
        """The new node of the real value of levels or of a chain."""
        if isinstance(value, Levels):
            return self.step(f"{value.node.name}_real", Unpack(value.levels), value)
        base = value.base
        node = self.step(base.name, packed_layer(base), base.levels) if isinstance(base, Sums) else base.node
        for link in value.links:
            if isinstance(link, Levels):
                node = self.graph.call_function(torch.add, (self.real_of(link), node))
            else:
                node = self.add(type(link).__name__.lower(), link, node)
        return node

    def chain(self, node: fx.Node, value: Value | None) -> MonotoneChain:
        """The first argument of a node as a chain."""
        return value if isinstance(value, MonotoneChain) else MonotoneChain(Real(self.real(node.args[0])))

    def step(self, name: str, step: nn.Module, *values: Real | Levels) -> fx.Node:
        """A new node that runs a step on values."""
        return self.add(name, step, *[value.node for value in values])

    def add(self, name: str, module: nn.Module, *args: Any, **kwargs: Any) -> fx.Node:
        """A new node that calls a module, which `root` holds once; `name` is its place in the model."""
        target = next((known for known, child in self.root.named_children() if child is module), None)
        if target is None:
            stem = re.sub(r"\W", "_", name)
            numbered = (f"{stem}_{number}" for number in count(2))
            target = next(t for t in chain([stem], numbered) if not hasattr(self.root, t))
            self.root.add_module(target, module)
            self.labels[target] = name
        return self.graph.call_module(target, args, kwargs)

    def feeds_vectors(self, node: fx.Node) -> bool:
        """Whether what takes bits from a node are linear layers, whose channels are the last axis."""
        takers = [(user, self.module(user)) for user in node.users if user in self.takes_bits]
        return all(
            isinstance(module, nn.Linear) or (isinstance(module, _IDENTITIES) and self.feeds_vectors(user))
            for user, module in takers
        )

    def _is_threshold(self, node: fx.Node) -> bool:
        return isinstance(self.module(node), Threshold)

    def _rule(self, node: fx.Node) -> Rule | None:
        if node.op == "call_module":
            return next((RULES[kind] for kind in type(self.module(node)).__mro__ if kind in RULES), None)
        return RULES.get(function_name(node)) if node.op.startswith("call_") else None

    def _does_take_bits(self, node: fx.Node) -> bool:
        """Whether a node is a layer of few bits, or hands on to one what a threshold gives; users come first."""
        rule = self._rule(node)
        if rule is None or rule.bits == "neither":
            return False
        if rule.bits == "forwards":
            return any(user in self.takes_bits for user in node.users)
        is_rounded = self.weight_bits is not None and node in self.before
        return is_rounded or isinstance(self.module(node), FewBitLayer)

    def _lower(self, node: fx.Node) -> Value:
        if node.op == "placeholder":
            return Real(self.graph.placeholder(node.name))
        if node.op == "get_attr":
            name = f"constant_{node.name}"
            self.root.register_buffer(name, attrgetter(cast(str, node.target))(self.model).detach().clone())
            return Real(self.graph.get_attr(name))
        self._check_foldable(node)
        rule, module = self._rule(node), self.module(node)
        first = self.values[node.args[0]] if node.args and isinstance(node.args[0], fx.Node) else None
        value = rule.lower(self, node, module, first) if rule else None
        if value is not None:
            return value
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self.real(n))
        if module is not None:
            return Real(self.add(str(node.target), module, *args, **kwargs))
        return Real(self.graph.create_node(node.op, node.target, args, kwargs))

    def _check_foldable(self, node: fx.Node) -> None:
        if node not in self.before or node not in self.behind:
            return
        module = self.module(node)
        if isinstance(module, ACTIVATIONS):
            raise MinimandError(
                f"{node.target} is {module}, between thresholds, and cannot be folded into comparisons; "
                "mm.harden(model, mm.Sign()) puts a threshold in its place."
            )
        if module is None and function_name(node).rstrip("_") in _ACTIVATION_FUNCTIONS:
            raise MinimandError(
                f"the model calls {function_name(node)} as a function between thresholds ({node.name}), which cannot "
                "be folded into comparisons; make it a module, so that mm.harden puts a threshold in its place."
            )


_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@lowers(*_IDENTITIES, bits="forwards")
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
