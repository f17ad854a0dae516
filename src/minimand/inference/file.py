"""Packed models in files: safetensors, with the steps as JSON beside the tensors. No file decides what code runs."""

import json
import operator
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .._support.errors import MinimandError
from .._support.files import write_whole
from .._support.sealed import SealError, read_tensors, sealed_tensors
from ..data import Data
from ..data.description import describe, described
from .file_modules import describe_module, make_module, plain, restored
from .read import function_name

FORMAT = 1
_MOST_STEPS = 20_000  # of modules, and of calls: networks have a few hundred
_CALLED = {
    operator: "add sub mul truediv neg getitem",
    torch: "add sub mul div neg flatten cat mean sum lerp addcmul sigmoid tanh relu softmax",
    F: "pad relu gelu silu sigmoid softmax avg_pool2d max_pool2d adaptive_avg_pool2d interpolate",
    Tensor: "add sub mul div neg addcmul lerp flatten mean sum view reshape permute transpose size chunk",
}
_FUNCTIONS = {f"{m.__name__}.{name}": getattr(m, name) for m, names in _CALLED.items() for name in names.split()}


class PackedFileError(MinimandError):
    """A file that is cut short, damaged, unreadable, or of another version."""


def write_packed(
    graph_module: fx.GraphModule, labels: dict[str, str], path: str | Path, inputs: Data | None = None
) -> None:
    """Write the steps of a packed model, their places in the model and what it takes; whole, or not at all."""
    tensors: dict[str, Tensor] = {}
    modules: dict[str, Any] = {}
    for name, module in graph_module.named_children():
        modules[name], own = describe_module(labels[name], module)
        tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    tensors |= dict(graph_module.named_buffers(recurse=False))
    nodes = [
        {"op": n.op, "name": n.name, "target": _target(n), "args": plain(n.args), "kwargs": plain(n.kwargs)}
        for n in graph_module.graph.nodes
    ]
    content: dict[str, Any] = {"labels": labels, "modules": modules, "nodes": nodes}
    content["inputs"] = None if inputs is None else describe(inputs)
    metadata = {"minimand": version("minimand"), "content": json.dumps(content)}
    dense = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(Path(path), *sealed_tensors("packed model", FORMAT, dense, metadata))


def read_packed(path: str | Path) -> tuple[fx.GraphModule, dict[str, str], Data | None]:
    """The steps, the labels and what the model takes, as `write_packed` wrote them.

    Raises PackedFileError or FileNotFoundError.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no packed model {str(path)!r}; packed.save(path) writes one.")
    try:
        tensors, metadata = read_tensors(Path(path), "packed model", FORMAT)
    except (SealError, OSError) as error:
        raise PackedFileError(str(error)) from None
    try:
        return _read(json.loads(metadata["content"]), tensors)
    except Exception as error:  # there is no end to what can be wrong with a file
        raise PackedFileError(f"{path} is damaged ({type(error).__name__}: {str(error)[:300]}).") from error


def _read(content: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[fx.GraphModule, dict[str, str], Data | None]:
    modules, nodes, labels = dict(content["modules"]), list(content["nodes"]), dict(content["labels"])
    if not nodes or max(len(modules), len(nodes)) > _MOST_STEPS:
        raise MinimandError(f"it has {len(modules)} modules and {len(nodes)} calls; expected at most {_MOST_STEPS}")
    if labels.keys() != modules.keys() or not all(isinstance(label, str) for label in labels.values()):
        raise MinimandError("its labels are not those of its modules")
    by_module: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, own_name = key.partition(".")
        by_module.setdefault(name, {})[own_name] = tensor
    root = nn.Module()
    for name, description in modules.items():
        root.add_module(name, make_module(description, by_module.get(name, {})))
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for node in nodes:
        op, target = node["op"], node["target"]
        args, kwargs = restored(node["args"], known), restored(node["kwargs"], known)
        for word in (*kwargs, *([] if op == "call_function" else [target])):  # torch.fx writes code with them
            if not re.fullmatch(r"\w+", word):
                raise MinimandError(f"it names {word!r}, which is no name")
        if op == "call_module" and target not in modules:
            raise MinimandError(f"it calls {target!r}, which it does not hold")
        if op == "get_attr":
            root.register_buffer(target, tensors[target])
        if op == "call_method" and f"Tensor.{target}" not in _FUNCTIONS:
            raise MinimandError(f"it calls {target!r}, which a file may not")
        called: Any = _FUNCTIONS[target] if op == "call_function" else target
        known[node["name"]] = graph.create_node(op, called, args, kwargs, node["name"])
    inputs = None if content["inputs"] is None else described(content["inputs"])
    return fx.GraphModule(root, graph), labels, inputs


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
