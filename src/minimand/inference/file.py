"""Packed models in files: safetensors, with the steps as JSON beside the tensors. No file decides what code runs."""

import inspect
import json
import math
import operator
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, fx, nn

from .. import layers
from .._support.errors import MinimandError
from .._support.files import write_whole
from ..data import Data
from ..data.description import describe, described
from ..layers.reshaping import FlattenOf
from ..layers.weight_bits import FEW_BIT_LAYERS
from . import steps
from .read import function_name

FORMAT = 1
_STEPS = (steps.PackReal, steps.PackedLayer, steps.Unpack, steps.Pool, steps.AsVectors, steps.Shortcut)
_THRESHOLDS = (layers.Sign, layers.Heaviside, layers.QuantizedReLU, layers.Staircase)
_FEW_BITS = tuple(FEW_BIT_LAYERS.values())
# Files of this format name a class as it is called, two of our own excepted.
_NAMES: dict[type[nn.Module], str] = {kind: kind.__name__ for kind in (*_STEPS, *_THRESHOLDS, *_FEW_BITS, FlattenOf)}
_NAMES |= {steps.PackReal: "Pack", steps.PackedLayer: "Layer"}
_CLASSES = {name: kind for kind, name in _NAMES.items()}
_CALLED = {
    operator: "add sub mul truediv neg getitem",
    torch: "add sub mul div neg flatten cat mean sum lerp addcmul sigmoid tanh relu softmax",
    F: "pad relu gelu silu sigmoid softmax avg_pool2d max_pool2d adaptive_avg_pool2d interpolate",
    Tensor: "add sub mul div neg addcmul lerp flatten mean sum view reshape permute transpose size chunk",
}
_FUNCTIONS = {f"{m.__name__}.{name}": getattr(m, name) for m, names in _CALLED.items() for name in names.split()}


class PackedFileError(MinimandError):
    """A file that is cut short, unreadable, or of another version."""


def write_packed(
    graph_module: fx.GraphModule, labels: dict[str, str], path: str | Path, inputs: Data | None = None
) -> None:
    """Write the steps of a packed model, their places in the model and what it takes; whole, or not at all."""
    modules = {name: _description(labels[name], module) for name, module in graph_module.named_children()}
    nodes = [
        {"op": n.op, "name": n.name, "target": _target(n), "args": _plain(n.args), "kwargs": _plain(n.kwargs)}
        for n in graph_module.graph.nodes
    ]
    content: dict[str, Any] = {"labels": labels, "modules": modules, "nodes": nodes}
    content["inputs"] = None if inputs is None else describe(inputs)
    tensors = {name: tensor.contiguous() for name, tensor in graph_module.state_dict().items()}
    for name, step in graph_module.named_children():
        if isinstance(step, steps.PackedLayer):
            tensors[f"{name}.integers"] = _squeezed(step.integers, step.bits)
            modules[name]["arguments"]["shape"] = _plain(tuple(step.integers.shape))
    metadata = {"format": str(FORMAT), "minimand": version("minimand"), "content": json.dumps(content)}
    write_whole(Path(path), save({name: tensor.clone() for name, tensor in tensors.items()}, metadata))


def read_packed(path: str | Path) -> tuple[fx.GraphModule, dict[str, str], Data | None]:
    """The steps, the labels and what the model takes, as `write_packed` wrote them.

    Raises PackedFileError or FileNotFoundError.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no packed model {str(path)!r}; packed.save(path) writes one.")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise PackedFileError(f"{path} is cut short or no packed model ({error}).") from None
    file_format = metadata.get("format")
    if file_format is None:
        raise PackedFileError(f"{path} is no packed model: it does not say its format.")
    if file_format != str(FORMAT):
        raise PackedFileError(
            f"{path} is of format {file_format}, which minimand {metadata.get('minimand')} wrote; this version reads "
            f"format {FORMAT}. Pack the model again, or use that version."
        )
    try:
        return _read(json.loads(metadata["content"]), tensors)
    except Exception as error:  # there is no end to what can be wrong with a file
        raise PackedFileError(f"{path} is damaged ({type(error).__name__}: {error}).") from error


def _read(content: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[fx.GraphModule, dict[str, str], Data | None]:
    root = nn.Module()
    for name, description in content["modules"].items():
        step_tensors = {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
        root.add_module(name, _module(description, step_tensors))
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for node in content["nodes"]:
        op, target = node["op"], node["target"]
        args, kwargs = _restored(node["args"], known), _restored(node["kwargs"], known)
        for word in (*kwargs, *([] if op == "call_function" else [target])):  # torch.fx writes code with them
            if not re.fullmatch(r"\w+", word):
                raise MinimandError(f"it names {word!r}, which is no name")
        if op == "call_module" and target not in content["modules"]:
            raise MinimandError(f"it calls {target!r}, which it does not hold")
        if op == "get_attr":
            root.register_buffer(target, tensors[target])
        if op == "call_method" and f"Tensor.{target}" not in _FUNCTIONS:
            raise MinimandError(f"it calls {target!r}, which a file may not")
        called: Any = _FUNCTIONS[target] if op == "call_function" else target
        known[node["name"]] = graph.create_node(op, called, args, kwargs, node["name"])
    inputs = None if content["inputs"] is None else described(content["inputs"])
    return fx.GraphModule(root, graph), content["labels"], inputs


def _description(name: str, module: nn.Module) -> dict[str, Any]:
    """The class of a module and the arguments that make it, which it has as attributes."""
    kind = type(module)
    is_known = kind in _NAMES or kind is getattr(nn, kind.__name__, None)
    names = [n for n, p in inspect.signature(kind).parameters.items() if p.kind is not p.VAR_KEYWORD]
    names = [n for n in names if n not in ("device", "dtype")]
    if not is_known or not all(hasattr(module, n) for n in names):
        raise MinimandError(
            f"{name} is a {kind.__name__}, which a file of a packed model cannot hold; it can hold modules of torch.nn."
        )
    arguments = {n: _plain(_argument(module, n)) for n in names}
    attributes = {n: getattr(module, n) for n in ("bits", "unit")} if isinstance(module, layers.FewBitLayer) else {}
    return {"class": _NAMES.get(kind, kind.__name__), "arguments": arguments, "more": attributes}


def _argument(module: nn.Module, name: str) -> Any:
    value = getattr(module, name)
    if not isinstance(module, tuple(_STEPS)):  # of torch's own, bias=True makes a bias
        return isinstance(value, Tensor) if name == "bias" else value
    return {"tensor": name} if isinstance(value, Tensor) else value


def _module(description: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    name = description["class"]
    kind = _CLASSES.get(name) or getattr(nn, name)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise MinimandError(f"it names {name!r}, which is no module")
    arguments = {key: _restored(value, tensors) for key, value in description["arguments"].items()}
    if kind is steps.PackedLayer:
        shape = arguments.pop("shape")
        arguments["integers"] = _unsqueezed(arguments["integers"], arguments["bits"], shape)
    module = kind(**arguments).eval()
    if kind not in _STEPS:
        module.load_state_dict(tensors)
    for key, value in description["more"].items():
        setattr(module, key, value)
    return module


def _target(node: fx.Node) -> str:
    if node.op == "call_function":
        for name, function in _FUNCTIONS.items():
            if function is node.target:
                return name
    if node.op == "call_function" or (node.op == "call_method" and f"Tensor.{node.target}" not in _FUNCTIONS):
        raise MinimandError(
            f"the model calls {function_name(node)}, which a file of a packed model cannot hold; it can hold modules "
            f"of torch.nn, and calls of {', '.join(_FUNCTIONS)}."
        )
    return str(node.target)


def _plain(value: Any) -> Any:
    """A value of a graph or an argument as JSON: what JSON has no word for, is a mapping."""
    match value:
        case fx.Node():
            return {"node": value.name}
        case slice():
            return {"slice": [_plain(part) for part in (value.start, value.stop, value.step)]}
        case tuple():
            return {"tuple": [_plain(part) for part in value]}
        case list():
            return [_plain(part) for part in value]
        case {"tensor": str()} | None | bool() | int() | float() | str():
            return value
        case dict():
            return {"mapping": {key: _plain(part) for key, part in value.items()}}
    raise MinimandError(f"the model uses {value!r}, which a file of a packed model cannot hold.")


def _restored(value: Any, known: dict[str, Any]) -> Any:
    """The inverse of `_plain`, with nodes or tensors by name."""
    match value:
        case {"node": name} | {"tensor": name}:
            return known[name]
        case {"slice": parts}:
            return slice(*(_restored(part, known) for part in parts))
        case {"tuple": parts}:
            return tuple(_restored(part, known) for part in parts)
        case {"mapping": parts}:
            return {key: _restored(part, known) for key, part in parts.items()}
        case list():
            return [_restored(part, known) for part in value]
    return value


def _squeezed(integers: Tensor, bits: int) -> Tensor:
    """Integers of few bits as bytes, 8 / bits in each."""
    if bits == 8:
        return integers.flatten()
    codes = (integers.flatten() > 0) if bits == 1 else integers.flatten() + 2 ** (bits - 1)
    codes = F.pad(codes.to(torch.uint8), (0, -len(codes) % (8 // bits))).view(-1, 8 // bits)
    return (codes << torch.arange(0, 8, bits)).sum(1).to(torch.uint8)


def _unsqueezed(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `_squeezed`."""
    if bits == 8:
        return packed.view(shape)
    codes = (packed[:, None] >> torch.arange(0, 8, bits)) & (2**bits - 1)
    codes = codes.flatten()[: math.prod(shape)].view(shape).to(torch.int8)
    return 2 * codes - 1 if bits == 1 else codes - 2 ** (bits - 1)
