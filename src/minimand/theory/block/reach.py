"""The maps that the data has passed on its way to a node of a traced block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from ..._support.errors import MinimandError
from .operations import Operation, activation_of, keeps_entries, operation
from .structure import Truth

LINEAR, ACTIVATED, SECOND_LINEAR = 1, 2, 3
"""Levels: a linear map was passed, an activation after it, a linear map after that."""


@dataclass(frozen=True)
class Reached:
    """The maps that the data has passed on its way to a node."""

    depends: bool = False
    level: int = 0
    convolutional: bool = False
    identity: Truth = "no"
    opaque: str = ""
    """What on some way is no map that a theorem speaks of, in words."""
    path: tuple[Operation, ...] = ()
    """The operations on the way on which it was changed most."""
    operations: dict[str, Operation] = field(default_factory=dict)
    """The operations on all ways, by node."""
    weights: frozenset[int] = frozenset()
    """The identities of the weights of the linear maps on all ways."""
    source: fx.Node | None = None
    """The node of whose entries this one is a function, of each by itself; None of what does not depend on data."""


def reach(node: fx.Node, nodes: Mapping[fx.Node, Reached], modules: Mapping[str, nn.Module]) -> Reached:
    """What the data has passed when it leaves a node."""
    if node.op == "placeholder":
        is_first = not any(reached.depends for reached in nodes.values())
        return Reached(is_first, identity="yes" if is_first else "no", source=node if is_first else None)
    if node.target is getattr and node.args[1] == "shape":  # a shape carries no data
        return Reached()
    data = [n for n in _arguments(node) if nodes[n].depends]
    if not data:
        return Reached()
    passed = operation(node, modules, len(data) > 1)
    if passed.kind == "sub" and node.args[:1] != (data[0],):
        passed = Operation("reshape", "neg")  # constant - data: the data change their sign
    sources = {nodes[n].source for n in data}
    source = sources.pop() if len(sources) == 1 else None
    joins = passed.kind in ("add", "sub") and len(data) > 1 and source is not None and nodes[source].level >= LINEAR
    if source is not None and (passed.kind == "opaque" or joins):
        by_entry = activation_of(node, lambda t: _value(node, t, {source: t}, modules))
        if by_entry is not None:
            return replace(_after(node, by_entry, [nodes[source]]), source=source)
    before = [nodes[n] for n in data]
    reached = replace(_after(node, passed, before), source=source if keeps_entries(passed) else node)
    weights = _weights(node, nodes, modules) if passed.kind in ("dense", "convolution") else frozenset()
    if weights & reached.weights:
        shared = f"{passed.name} has the weights of a linear map before it"
        reached = replace(reached, opaque=reached.opaque or shared)
    return replace(reached, weights=reached.weights | weights)


def _after(node: fx.Node, passed: Operation, before: Sequence[Reached]) -> Reached:
    furthest = max(before, key=lambda r: (r.level, r.convolutional, len(r.path)))
    opaque = next((r.opaque for r in before if r.opaque), "")
    level, convolutional = furthest.level, furthest.convolutional
    identity: Truth = "no"
    kind = passed.kind
    if kind in ("dense", "convolution"):
        level = SECOND_LINEAR if level >= ACTIVATED else LINEAR
        convolutional = convolutional or kind == "convolution"
    elif kind == "activation":
        level = ACTIVATED if level >= LINEAR else 0
    elif kind == "opaque":
        opaque = opaque or f"{passed.name} is not known as linear, nor as one function of every entry"
        identity = "unknown"
    elif kind in ("add", "sub"):
        truths = [r.identity for r in (before if kind == "add" else before[:1])]
        identity = next(truth for truth in ("yes", "unknown", "no") if truth in truths)
        if kind == "sub" and len(before) > 1 and before[1].identity == "yes":
            opaque = opaque or "sub takes the input away, which no weight turns off"
        elif any(_is_fixed(r) for r in before):
            opaque = opaque or f"{passed.name} takes in what has passed no linear map and is not the input"
    elif kind == "same":
        identity = before[0].identity
    operations = {name: op for reached in before for name, op in reached.operations.items()}
    path = furthest.path
    if kind not in ("same", "reshape", "add", "sub"):
        path = path if kind == "turned" else (*path, passed)
        operations[node.name] = passed
    weights = frozenset[int]().union(*(reached.weights for reached in before))
    return Reached(True, level, convolutional, identity, opaque, path, operations, weights)


def _is_fixed(reached: Reached) -> bool:
    """Whether data is a map of the input, and not the input, that passed no linear map, which could be 0."""
    attends = any(op.kind == "attention" for op in reached.path)
    return reached.level == 0 and reached.identity == "no" and not attends


def _weights(node: fx.Node, nodes: Mapping[fx.Node, Reached], modules: Mapping[str, nn.Module]) -> frozenset[int]:
    """The identities of the parameters that a linear map multiplies with; biases are left out."""
    if node.op == "call_module":
        return frozenset(id(p) for p in modules[str(node.target)].parameters() if p.ndim > 1)
    if node.op == "get_attr":
        place, _, name = str(node.target).rpartition(".")
        value = getattr(modules.get(place), name, None)
        return frozenset([id(value)] if isinstance(value, nn.Parameter) and value.ndim > 1 else [])
    constants = [n for n in node.all_input_nodes if not nodes[n].depends]
    return frozenset[int]().union(*(_weights(n, nodes, modules) for n in constants))


def _arguments(node: fx.Node) -> list[fx.Node]:
    """The nodes that a node is given, each as often as it is."""
    arguments: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), arguments.append)
    return arguments


def _value(node: fx.Node, t: torch.Tensor, values: dict[fx.Node, Any], modules: Mapping[str, nn.Module]) -> Any:
    """What a node gives where others have these values; MinimandError for what is neither a call nor among them."""
    if node not in values:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: _value(n, t, values, modules))
        if node.op == "call_method":
            values[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        elif node.op == "call_module":
            values[node] = modules[str(node.target)](*args, **kwargs)
        elif node.op == "call_function" and callable(node.target):
            values[node] = node.target(*args, **kwargs)
        else:
            raise MinimandError(f"{node.name} is no call.")
    return values[node]
