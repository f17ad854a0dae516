"""From the graph of a hardened model to one that runs on bits."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from .._support.errors import MinimandError
from ..layers.thresholds import Threshold
from ..layers.weight_bits import FewBitLayer, few_bit_weight
from ..networks.kinds import ACTIVATIONS
from .folding import LARGEST, float_of, jumps_of
from .read import attribute, connected, function_name
from .steps import AsVectors, Pack, Pool, Shortcut, Unpack
from .values import (
    NORMS,
    Chain,
    Levels,
    Real,
    Sums,
    applied,
    bound_of,
    directions,
    is_poolable,
    lowest,
    packed_layer,
    padding_of,
    pooling_of,
    shaped,
    some,
)

_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_FUNCTIONS = {"relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardtanh"}
_FUNCTIONS |= {"tanh", "softplus", "softsign"}
_EXACT = 2**24
"""Integers below are exact in float32."""


@dataclass
class Lowering:
    """Goes through the graph of a model once; what becomes of it is in `root` and `graph`."""

    model: nn.Module
    weights: int | None
    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=fx.Graph)
    labels: dict[str, str] = field(default_factory=dict)
    """What the steps were in the model, by their names in `root`."""
    waiting: list[str] = field(default_factory=list)
    """Layers of real weights between thresholds."""

    def run(self, graph: fx.Graph) -> None:
        """Lower every node.

        Raises:
            ValueError: an activation between thresholds that is none.
        """
        self.env: dict[fx.Node, Real | Levels | Chain] = {}
        self.before = connected(reversed(graph.nodes), self._is_threshold, lambda node: node.users)
        self.behind = connected(graph.nodes, self._is_threshold, lambda node: node.all_input_nodes)
        self.takes_bits = self._taking_bits(graph)
        for node in graph.nodes:
            if node.op == "output":
                self.graph.output(fx.map_arg(node.args[0], lambda n: self.real(n)))
            else:
                found = self._lower(node)
                shared = isinstance(found, Chain) and (found.links or isinstance(found.base, Sums))
                if shared and len(node.users) > 1:
                    found = Real(self._real_of(cast(Chain, found)))
                self.env[node] = found

    def _is_threshold(self, node: fx.Node) -> bool:
        return node.op == "call_module" and isinstance(self.module(node), Threshold)

    def module(self, node: fx.Node) -> nn.Module:
        """What a node calls."""
        return self.model.get_submodule(cast(str, node.target))

    def _lower(self, node: fx.Node) -> Real | Levels | Chain:
        if node.op == "placeholder":
            return Real(self.graph.placeholder(node.name))
        if node.op == "get_attr":
            name = f"constant_{node.name}"
            self.root.register_buffer(name, attribute(self.model, cast(str, node.target)).detach().clone())
            return Real(self.graph.get_attr(name))
        given = self.env[node.args[0]] if node.args and isinstance(node.args[0], fx.Node) else None
        self._check_foldable(node)
        if node.op == "call_module":
            found = self._module(node, self.module(node), given)
        else:
            found = self._function(node, function_name(node), given)
        if found is not None:
            return found
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self.real(n))
        if node.op == "call_module":
            return Real(self._add(str(node.target), self.module(node), *args, **kwargs))
        return Real(self.graph.create_node(node.op, node.target, args, kwargs))

    def _module(self, node: fx.Node, module: nn.Module, given: Any) -> Real | Levels | Chain | None:
        name = str(node.target)
        if isinstance(module, _IDENTITIES):
            return given
        if isinstance(module, Threshold):
            return self._threshold(node, module, given)
        if isinstance(module, nn.Linear | nn.Conv2d) and isinstance(given, Levels):
            layer = self._few_bits(node, module, given)
            return Chain(Sums(given, layer, name)) if layer else None
        if isinstance(module, nn.Linear | nn.Conv2d) and node in self.before & self.behind:
            self.waiting += [] if isinstance(module, FewBitLayer) else [name]
        if isinstance(module, nn.MaxPool2d) and is_poolable(module):
            if isinstance(given, Levels):
                return replace(given, node=self._step(name, Pool(pooling_of(module)), given))
            if isinstance(given, Chain) and not given.has(nn.MaxPool2d) and not given.has(Levels):
                return Chain(given.base, (*given.links, module))
            return Chain(Real(self.real(node.args[0])), (module,)) if not isinstance(given, Levels) else None
        if isinstance(module, NORMS) and module.running_var is not None and not isinstance(given, Levels):
            chain = given if isinstance(given, Chain) else Chain(Real(self.real(node.args[0])))
            if isinstance(chain.base, Real) or isinstance(module, nn.BatchNorm1d) == isinstance(
                chain.base.layer, nn.Linear
            ):
                return Chain(chain.base, (*chain.links, module))
        if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            return self._flatten(name, given, module)
        return None

    def _flatten(self, name: str, given: Any, module: nn.Flatten | None = None) -> Levels | None:
        if not isinstance(given, Levels) or given.levels.shape[1] > 1:
            return None
        step = AsVectors(getattr(module, "features", None), getattr(module, "image_size", None))
        return Levels(self._step(name, step, given), given.levels, given.threshold)

    def _function(self, node: fx.Node, name: str, given: Any) -> Levels | Chain | None:
        if name == "flatten" and tuple(node.args[1:]) in ((1,), (1, -1)) and not node.kwargs:
            return self._flatten(node.name, given)
        if name == "add" and len(node.args) == 2 and node.kwargs in ({}, {"alpha": 1}):
            terms = [self.env.get(n) if isinstance(n, fx.Node) else None for n in cast(tuple[Any, Any], node.args)]
            chains = [t for t in terms if isinstance(t, Chain) and isinstance(t.base, Sums)]
            others = [t for t in terms if isinstance(t, Levels)]
            if chains and others and not chains[0].has(Levels) and not chains[0].has(nn.MaxPool2d):
                return Chain(chains[0].base, (*chains[0].links, others[0]))
        if isinstance(given, Levels) and given.levels.shape[1] == 1:
            return self._shortcut(node, name, given)
        return None

    def _shortcut(self, node: fx.Node, name: str, given: Levels) -> Levels | None:
        """The parts of a shortcut without parameters: every s-th pixel; channels of zeros."""
        whole = slice(None)
        if name == "getitem" and isinstance(index := node.args[1], tuple) and len(index) == 4:
            strides = [i.step for i in index[2:] if isinstance(i, slice) and (i.start, i.stop) == (None, None)]
            if index[:2] == (whole, whole) and len(strides) == 2 and all(isinstance(s, int) for s in strides):
                return replace(given, node=self._step(node.name, Shortcut((strides[0], strides[1]), 0, 0), given))
        zeros = node.kwargs.get("mode", "constant") == "constant" and not node.kwargs.get("value")
        if name == "pad" and len(node.args) == 2 and zeros and isinstance(sides := node.args[1], tuple):
            *around, before, after = cast(tuple[int, ...], sides)
            if around == [0, 0, 0, 0] and min(before, after) >= 0 and given.channels:
                levels = nn.functional.pad(given.levels.expand(-1, given.channels), (before, after))
                return Levels(self._step(node.name, Shortcut((1, 1), before, after), given), levels, given.threshold)
        return None

    def _few_bits(self, node: fx.Node, module: nn.Linear | nn.Conv2d, given: Levels) -> FewBitLayer | None:
        """The layer, if it can run on these bits; one of real weights is rounded, if that is asked for."""
        threshold = given.threshold
        padded = given.levels.shape[1] > 1
        if padded or lowest(threshold) is None or (isinstance(module, nn.Conv2d) and padding_of(module) is None):
            return None
        layer = module if isinstance(module, FewBitLayer) else None
        if layer is None:
            if node not in self.before or self.weights is None:
                return None
            layer = few_bit_weight(module, self.weights)
            self.model.set_submodule(str(node.target), layer)
        layer.unit = threshold.unit
        return layer if int(bound_of(layer, threshold).max()) < _EXACT else None

    def _threshold(self, node: fx.Node, threshold: Threshold, given: Any) -> Levels | Real:
        name = str(node.target)
        chain = given if isinstance(given, Chain) else Chain(Real(self.real(node.args[0])))
        levels = threshold.from_codes(torch.arange(threshold.levels), torch.float32)[:, None]
        if isinstance(chain.base, Sums):
            channels = len(chain.base.layer.weight)
            return Levels(self._cut_sums(chain.base, chain.links, threshold, name), levels, threshold, channels)
        if not any(user in self.takes_bits for user in node.users):
            return Real(self._add(name, threshold, self._real_of(chain)))
        channels = next((link.num_features for link in chain.links if isinstance(link, NORMS)), None)
        return Levels(self._cut_real(chain.base, chain.links, threshold, node), levels, threshold, channels)

    def _taking_bits(self, graph: fx.Graph) -> set[fx.Node]:
        """The layers of few bits, and what hands on to them what a threshold gives."""
        found: set[fx.Node] = set()
        for node in reversed(graph.nodes):
            module = self.module(node) if node.op == "call_module" else None
            if isinstance(module, nn.Linear | nn.Conv2d):
                takes = isinstance(module, FewBitLayer) or (self.weights is not None and node in self.before)
            elif isinstance(module, (*_IDENTITIES, nn.MaxPool2d, nn.Flatten)) or (
                module is None and function_name(node) in ("flatten", "add", "getitem", "pad")
            ):
                takes = any(user in found for user in node.users)
            else:
                takes = False
            if takes:
                found.add(node)
        return found

    def _feeds_vectors(self, node: fx.Node) -> bool:
        """Whether what takes bits from a node are linear layers, whose channels are the last axis."""
        takers = [user for user in node.users if user in self.takes_bits]
        modules = [self.module(user) if user.op == "call_module" else None for user in takers]
        return all(
            isinstance(module, nn.Linear) or (isinstance(module, _IDENTITIES) and self._feeds_vectors(user))
            for user, module in zip(takers, modules, strict=True)
        )

    def _cut_real(self, base: Real, links: tuple[Any, ...], threshold: Threshold, node: fx.Node) -> fx.Node:
        channels = next((link.num_features for link in links if isinstance(link, NORMS)), 1)
        rises, after, pooling = directions(links, channels)

        def below(keys: Tensor) -> Tensor:
            maps = any(isinstance(link, nn.BatchNorm2d) for link in links)
            return threshold.codes(threshold.values(applied(shaped(float_of(keys), maps), links))).view(-1)

        keys, flip = jumps_of(below, torch.full((channels,), LARGEST), rises, threshold.levels - 1)
        flip, last = flip ^ after, not links and self._feeds_vectors(node)
        return self._step(str(node.target), Pack(float_of(keys), some(flip), some(after), pooling, last), base)

    def _cut_sums(self, base: Sums, links: tuple[Any, ...], threshold: Threshold, name: str) -> fx.Node:
        layer = base.layer
        channels = len(layer.weight)
        rises, after, pooling = directions(links, channels)
        shortcut = next((link for link in links if isinstance(link, Levels)), None)
        rows = [None] if shortcut is None else list(shortcut.levels.expand(-1, channels))
        bound = bound_of(layer, base.levels.threshold)

        def below_with(row: Tensor | None) -> Callable[[Tensor], Tensor]:
            def below(keys: Tensor) -> Tensor:
                z = layer.scaled(shaped(keys.float(), isinstance(layer, nn.Conv2d)))
                return threshold.codes(threshold.values(applied(z, links, row))).view(-1)

            return below

        found = [jumps_of(below_with(row), bound, rises, threshold.levels - 1) for row in rows]
        flip = found[0][1] ^ after
        limits = torch.stack([limits for limits, _ in found]).int()
        step = packed_layer(base, thresholds=limits, flip=some(flip), after=some(after), pooling=pooling)
        return self._step(f"{base.name} to {name}", step, base.levels, *([shortcut] if shortcut else []))

    def real(self, node: Any) -> fx.Node:
        """The node of a real value."""
        value = self.env[node]
        if isinstance(value, Levels):
            return self._real_levels(value)
        return value.node if isinstance(value, Real) else self._real_of(value)

    def _real_levels(self, value: Levels) -> fx.Node:
        return self._step(f"{value.node.name}_real", Unpack(value.levels), value)

    def _real_of(self, chain: Chain) -> fx.Node:
        base = chain.base
        node = self._step(base.name, packed_layer(base), base.levels) if isinstance(base, Sums) else base.node
        for link in chain.links:
            if isinstance(link, Levels):
                node = self.graph.call_function(torch.add, (self._real_levels(link), node))
            else:
                node = self._add(type(link).__name__.lower(), link, node)
        return node

    def _step(self, name: str, step: nn.Module, *given: Real | Levels) -> fx.Node:
        return self._add(name, step, *[value.node for value in given])

    def _add(self, name: str, module: nn.Module, *args: Any, **kwargs: Any) -> fx.Node:
        target = next((known for known, child in self.root.named_children() if child is module), None)
        if target is None:
            stem = re.sub(r"\W", "_", name)
            more = (f"{stem}_{number}" for number in count(2))
            target = next(t for t in chain([stem], more) if not hasattr(self.root, t))
            self.root.add_module(target, module)
            self.labels[target] = name
        return self.graph.call_module(target, args, kwargs)

    def _check_foldable(self, node: fx.Node) -> None:
        if node not in self.before or node not in self.behind:
            return
        if node.op == "call_module":
            module = self.module(node)
            if isinstance(module, ACTIVATIONS):
                raise MinimandError(
                    f"{node.target} is {module}, between thresholds, and cannot be folded into comparisons; "
                    "mm.harden(model, mm.Sign()) puts a threshold in its place."
                )
        elif function_name(node).rstrip("_") in _FUNCTIONS:
            raise MinimandError(
                f"the model calls {function_name(node)} as a function between thresholds ({node.name}), which cannot "
                "be folded into comparisons; make it a module, so that mm.harden puts a threshold in its place."
            )
