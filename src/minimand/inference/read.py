"""Reads a model as a graph of its layers."""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from torch import fx, nn
from torch.fx.proxy import TraceError

from .._support.errors import MinimandError
from ..equilibrium import Equilibrium
from ..layers.normalization import InstanceNormOfMaps
from ..layers.reshaping import FlattenOf
from ..layers.thresholds import Opaque, Threshold
from ..layers.weight_bits import FewBitLayer
from ..networks.skeletons import skeletons

_IN_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_whole = isinstance(m, FewBitLayer | Threshold | FlattenOf | InstanceNormOfMaps | Opaque)
        return is_whole or super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val  # a coefficient that was learned is a number now


def _check(model: nn.Module) -> None:
    """Raise MinimandError for a model that computes by hooks, or in as many steps as each batch needs."""
    name = type(model).__name__
    if any(skeleton.is_wired for skeleton in skeletons(model)):
        raise MinimandError(
            f"{name} is rewired: hooks between its blocks, which torch.fx does not read, run an algorithm; "
            "expected a model of mm.create_model or mm.unroll, which runs the algorithm itself."
        )
    if any(isinstance(module, Equilibrium) for module in model.modules()):
        raise MinimandError(
            f"{name} has an equilibrium, whose solver takes as many steps as each batch needs, and a packed model is "
            "one graph; expected a model of finite depth."
        )


def graph_of(model: nn.Module) -> fx.Graph:
    """The graph of a model, a function of one tensor that decides nothing by values; its nodes write into nothing."""
    _check(model)
    try:
        graph = _Tracer().trace(model)
    except (TraceError, TypeError) as error:
        raise MinimandError(
            f"{type(model).__name__} cannot be read by torch.fx ({error}). A model can be packed whose forward is the "
            "same for every input: decisions that depend on the input belong into a module of torch.nn, or before it."
        ) from None
    parameters = [node.name for node in graph.nodes if node.op == "placeholder"]
    if len(parameters) != 1:
        raise MinimandError(
            f"{type(model).__name__}.forward takes {', '.join(parameters) or 'nothing'}; expected one tensor: put it "
            "into a module whose forward has x alone."
        )
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    written: dict[fx.Node, fx.Node] = {}  # from a node that was written into to the one with its present content
    for node in graph.nodes:
        node.args, node.kwargs = fx.map_arg((node.args, node.kwargs), lambda n: written.get(n, n))
        node.kwargs = {key: value for key, value in node.kwargs.items() if key != "inplace"}
        if node.op == "call_module" and not node.args:
            node.args, node.kwargs = tuple(node.kwargs.values()), {}
        name = node.target if node.op == "call_method" else ""
        if node.target in _IN_PLACE or (name.endswith("_") and not name.endswith("__")):
            node.target = _IN_PLACE.get(node.target) or name[:-1]
            for key, value in list(written.items()):
                written[key] = node if value is node.args[0] else value
            written[node.args[0]] = node
    return graph


def function_name(node: fx.Node) -> str:
    """The bare name of what a node calls: add for operator.add, torch.add and the method."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def reachable(
    nodes: Iterable[fx.Node], is_source: Callable[[fx.Node], bool], neighbours: Callable[[fx.Node], Iterable[fx.Node]]
) -> set[fx.Node]:
    """The nodes that are reached from a source; in the order of `nodes` the neighbours of a node come before it."""
    reached: set[fx.Node] = set()
    for node in nodes:
        if any(neighbour in reached or is_source(neighbour) for neighbour in neighbours(node)):
            reached.add(node)
    return reached
