"""Activations that the code of a module calls as functions, read by torch.fx, with modules in their places."""

import copy
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from .._support.errors import MisuseError
from .._support.torch.internals import replaced_forward

_NAMES = ["relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish"]
_NAMES += ["hardtanh", "tanh", "softplus", "softsign", "relu_", "leaky_relu_", "rrelu_", "elu_", "selu_", "celu_"]
_NAMES += ["hardtanh_", "tanh_"]
FUNCTIONS = {getattr(space, name) for space in (F, torch) for name in _NAMES if hasattr(space, name)}
"""Functions that a hard threshold can take the place of."""
_CALLS = re.compile(rf"(?:\bF|\bfunctional|\btorch|[\w\])])\.({'|'.join(sorted(_NAMES, key=len, reverse=True))})\(")


class _Children(torch.fx.Tracer):
    """A tracer that goes into no module but the one it is given."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class HardForward:
    """The forward of a module as torch.fx read it, in training and in evaluation, with its functions replaced."""

    def __init__(self, module: nn.Module, sources: dict[bool, tuple[str, dict[str, Any]]]) -> None:
        self.module, self.sources = module, sources
        _, *parameters = inspect.signature(type(module).forward).parameters.values()  # but for the module itself
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.names = [p.name for p in parameters]
        self.functions = {training: _function(*source) for training, source in sources.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = {**dict(zip(self.names, args, strict=False)), **kwargs}
        for name, default in self.defaults.items():
            if arguments.setdefault(name, default) is not default:
                raise MisuseError(
                    f"{type(self.module).__name__} was hardened as it runs without {name}; expected {default!r}. Make "
                    "its activations modules before it is hardened, and it can be called by any arguments."
                )
        return self.functions[self.module.training](self.module, *[arguments[name] for name in self.names])

    def __deepcopy__(self, memo: dict[int, Any]) -> "HardForward":
        return HardForward(copy.deepcopy(self.module, memo), self.sources)

    def __reduce__(self) -> Any:
        plain = {
            training: (source, {k: _Named(v.__name__) if isinstance(v, ModuleType) else v for k, v in names.items()})
            for training, (source, names) in self.sources.items()
        }
        return _again, (self.module, plain)


class _Named(str):
    """The name of a Python module in a pickle."""


def _again(module: nn.Module, plain: dict[bool, tuple[str, dict[str, Any]]]) -> HardForward:
    sources = {
        training: (
            source,
            {k: importlib.import_module(v) if isinstance(v, _Named) else v for k, v in names.items()},
        )
        for training, (source, names) in plain.items()
    }
    return HardForward(module, sources)


def _function(source: str, names: dict[str, Any]) -> Callable[..., Any]:
    space = dict(names)
    exec(compile(source, "<hardened forward>", "exec"), space)
    return space["forward"]


@lru_cache(maxsize=1024)
def calls(kind: type[nn.Module]) -> int:
    """The number of calls of activation functions in the code of a class of modules, as far as it can be read."""
    if kind.__module__.split(".")[0] == "torch":
        return 0
    try:
        return len(_CALLS.findall(textwrap.dedent(inspect.getsource(kind))))
    except (OSError, TypeError):
        return 0


def read(module: nn.Module) -> dict[bool, torch.fx.Graph] | str:
    """What a module does in training and in evaluation; text says why it cannot be read."""
    parameters = inspect.signature(type(module).forward).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return "its forward takes any arguments"
    if replaced_forward(module) is not None:
        return "its forward is not that of its class, as of a layer rewired with a memory: harden it before"
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    graphs: dict[bool, torch.fx.Graph] = {}
    before = module.training
    names = set(dir(module))
    try:
        for training in (False, True):
            module.training = training
            graphs[training] = _Children().trace(module, defaults or None)
    except Exception as error:  # the module's code may raise anything where it gets no tensor
        return f"torch.fx cannot read its forward ({type(error).__name__}: {str(error).splitlines()[0][:80]})"
    finally:
        module.training = before
        constants = set(dir(module)) - names
        for name in constants:  # the tracer leaves its constants in the module
            delattr(module, name)
    return "its forward makes tensors of its own" if constants else graphs


def activations(graph: torch.fx.Graph) -> list[torch.fx.Node]:
    """The nodes of a graph that call an activation as a function or as a method of a tensor."""
    return [
        node
        for node in graph.nodes
        if (node.op == "call_function" and node.target in FUNCTIONS)
        or (node.op == "call_method" and node.target in _NAMES)
    ]


def hardened(module: nn.Module, graphs: dict[bool, torch.fx.Graph], names: list[str]) -> HardForward:
    """The forward of a module with the children of these names in the places of its activations."""
    sources: dict[bool, tuple[str, dict[str, Any]]] = {}
    for training, graph in graphs.items():
        for node, name in zip(activations(graph), names, strict=True):
            with graph.inserting_after(node):
                source = node.args[0] if node.args else node.kwargs["input"]
                new = graph.call_module(name, (source,))
            node.replace_all_uses_with(new)
            graph.erase_node(node)
        for node in [node for node in graph.nodes if node.op == "placeholder" and node.args]:
            node.args = ()
        code = graph.python_code("self")
        sources[training] = (code.src, code.globals)
    return HardForward(module, sources)
