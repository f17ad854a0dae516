"""The walk through a block: torch.fx follows the data from its input to its output."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import fx, nn

from ..._support.errors import MinimandError, WrongTypeError
from ..._support.torch.internals import ConvNd
from ..._support.torch.modes import evaluation_mode
from .operations import Operation, is_leaf
from .reach import ACTIVATED, SECOND_LINEAR, Reached, reach
from .structure import BlockStructure, Truth


def block_structures(blocks: Any) -> tuple[BlockStructure, ...]:
    """The structures of one block, or of several in a mapping or a list: of a layer's steps, or a step's oracles."""
    if isinstance(blocks, nn.ModuleDict | Mapping):
        blocks = list(blocks.values())
    if isinstance(blocks, nn.ModuleList | list | tuple):
        if not len(blocks):
            raise MinimandError("block is empty; expected a module, or those of a layer.")
        return tuple(map(block_structure, blocks))
    return (block_structure(blocks),)


def block_structure(block: nn.Module) -> BlockStructure:
    """Follow the data through the block, in evaluation mode; 'unknown' where its forward cannot be traced."""
    if not isinstance(block, nn.Module):
        raise WrongTypeError(f"block is {type(block).__name__}; expected a module.")
    parameters = list(inspect.signature(block.forward).parameters.values())[1:]
    constants = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    try:
        with evaluation_mode(block):
            graph = _Tracer().trace(block, constants)
    except Exception as error:  # tracing runs the user's code, which may raise anything
        why = f"torch.fx cannot trace {type(block).__name__} ({type(error).__name__})"
        return _of_its_parts(BlockStructure("unknown", "unknown", False, why), block)
    modules = dict(block.named_modules())
    nodes: dict[fx.Node, Reached] = {}
    for node in graph.nodes:
        nodes[node] = reach(node, nodes, modules)
    output = next(nodes[node] for node in graph.nodes if node.op == "output")
    structure = _structure(output)
    return _of_its_parts(structure, block) if structure.two_layer == "unknown" else structure


def _structure(output: Reached) -> BlockStructure:
    two_layer: Truth = "no"
    why = "no linear - activation - linear on any path"
    if output.opaque:
        two_layer, why = "unknown", output.opaque
    elif output.level == SECOND_LINEAR:
        two_layer = "yes"
        why = "linear - activation - linear" + (", through convolutions" if output.convolutional else "")
    elif output.level == ACTIVATED:
        why = "an activation after its last linear map, and so no linear - activation - linear to its output"
    operations = tuple(output.operations.values())
    return BlockStructure(two_layer, output.identity, output.convolutional, why, output.path, operations)


def _of_its_parts(structure: BlockStructure, block: nn.Module) -> BlockStructure:
    """The structure of a block that was not looked through: what kind it is, by the modules in it."""
    attention = tuple(
        Operation("attention", type(m).__name__)
        for name, m in block.named_modules()
        if _attends(name, m) and not isinstance(m, nn.Identity)
    )
    convolutional = structure.convolutional or any(isinstance(m, ConvNd) for m in block.modules())
    return replace(structure, convolutional=convolutional, operations=structure.operations + attention)


def _attends(name: str, module: nn.Module) -> bool:
    """Whether a part of a block is attention, by its class, or by what it is called there."""
    words = f"{type(module).__name__} {name.rpartition('.')[2]}".lower()
    return isinstance(module, nn.MultiheadAttention) or "attention" in words or "attn" in words


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m) or super().is_leaf_module(m, module_qualified_name)

    def iter(self, obj: fx.Proxy) -> Iterator[fx.Proxy]:
        """The parts of a tensor that is split, in a loop over them."""
        arguments = obj.node.args
        if obj.node.target == "split" and isinstance(arguments[1], list | tuple):
            return iter(_parts(obj, len(arguments[1])))
        if obj.node.target == "chunk" and isinstance(arguments[1], int):
            return iter(_parts(obj, arguments[1]))
        return super().iter(obj)


def _parts(split: Any, count: int) -> list[fx.Proxy]:
    return [split[i] for i in range(count)]
