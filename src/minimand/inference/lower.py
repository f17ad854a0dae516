"""From the graph of a hardened model to one that runs on bits.

What becomes of a module, or of a call, is told by one function of `rules`, found by the module's type or by the
called name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, count
from operator import attrgetter
from typing import Any, Literal, cast

import torch
from torch import fx, nn

from .._support.errors import MinimandError
from ..layers.thresholds import Threshold
from ..layers.weight_bits import FewBitLayer
from ..networks.kinds import ACTIVATION_FUNCTIONS, ACTIVATIONS
from .read import function_name, reachable
from .steps import Unpack
from .values import Levels, MonotoneChain, Real, Sums, packed_layer

Value = Real | Levels | MonotoneChain
IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Modules that hand on what they are given."""

_ACTIVATION_FUNCTIONS = ACTIVATION_FUNCTIONS.keys() - {"arctan", "erf", "linear", "sigmoid", "sin"}
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
            isinstance(module, nn.Linear) or (isinstance(module, IDENTITIES) and self.feeds_vectors(user))
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
