"""Models of one's own: a module, what makes one, or text that names it in a file, `path/to/file.py:Net(width=64)`."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .._support.errors import MinimandError, WrongTypeError
from .._support.names.calls import call_with, parse_call
from .._support.names.own_file import name_in_file
from ..algorithms import Algorithm, as_algorithm
from ..surgery.rewire import rewire

_sources: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def is_own(model: Any) -> bool:
    """Whether a model is not named, but a module, what makes one, or text that names one in a file."""
    return not isinstance(model, str) or ".py:" in model


def source_of(model: nn.Module) -> str | None:
    """The file, name and arguments of which a module was made, as `net:Net(width=64)`; None for other modules."""
    return _sources.get(model)


def source_text(text: str) -> str:
    """What `source_of` says of the module that text names: the file without its folder, the name, the arguments."""
    source, _, call = text.rpartition(".py:")
    return f"{Path(source).name}:{call.strip()}"


def forbid_own(model: Any) -> None:
    """Raise MinimandError for text that names code: a folder gave it, and a folder never decides what code runs."""
    if isinstance(model, str) and ".py:" in model:
        raise MinimandError(
            f"the model {model!r} is your own, and a folder never decides what code runs; give it again: pass model=, "
            "or --model path/to/file.py:Net on the command line."
        )


def make_own(
    model: Any,
    data_shape: tuple[int, ...] | None = None,
    num_outputs: int | None = None,
    algorithm: Algorithm | type[Algorithm] | str | None = None,
    tokens: bool = False,
) -> nn.Module:
    """The module that `model` stands for: itself, what a class or function makes, or what text names in a file.

    A class or function is given `num_classes` (or `num_outputs`), `in_channels` and `in_features` where it needs them,
    and for text `num_tokens` and `context`.
    An algorithm rewires the module, as a pass of blank samples (of tokens, where these are) shows its blocks to run,
    unless the maker takes it as its argument `algorithm`.

    Raises:
        MinimandError: no such file or name; a maker that raises. WrongTypeError: something that is no module.
    """
    arguments: dict[str, Any] = {}
    name = getattr(model, "__qualname__", type(model).__name__)
    maker, text = model, model if isinstance(model, str) else None
    if text is not None:
        name = text
        maker, arguments = _named_in_file(text)
    wired_by = None if algorithm is None else as_algorithm(algorithm)
    if not isinstance(maker, nn.Module) and callable(maker):
        parameters = _parameters(maker)
        if wired_by is not None and "algorithm" in parameters:
            arguments, wired_by = {**arguments, "algorithm": wired_by}, None
        maker = _made(maker, {**_sizes(parameters, data_shape, num_outputs), **arguments}, name)
    if not isinstance(maker, nn.Module):
        raise WrongTypeError(
            f"{name} is {type(maker).__name__}; expected a module, or a class or function that makes one."
        )
    if text is not None:
        _sources[maker] = source_text(text)
    if wired_by is None:
        return maker
    kind = torch.long if tokens else torch.get_default_dtype()
    return rewire(maker, wired_by, example=None if data_shape is None else torch.zeros(2, *data_shape, dtype=kind))


def check_own(text: str) -> None:
    """Raise MinimandError unless there is what text such as `path/to/file.py:Net` names."""
    _named_in_file(text)


def _named_in_file(text: str) -> tuple[Any, dict[str, Any]]:
    """The object of the name, and the arguments after it."""
    source, _, call = text.rpartition(".py:")
    name, arguments = parse_call(call, "model")
    return name_in_file(Path(f"{source}.py"), name, "model"), arguments


def _parameters(maker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(maker).parameters)
    except ValueError:  # built-in functions may have no signature
        return {}


def _sizes(
    parameters: dict[str, inspect.Parameter], data_shape: tuple[int, ...] | None, num_outputs: int | None
) -> dict[str, Any]:
    """What follows from the data of the arguments that a maker cannot do without."""
    sizes: dict[str, Any] = {}
    if num_outputs is not None:
        sizes |= {"num_classes": num_outputs, "num_outputs": num_outputs, "num_tokens": num_outputs}
    if data_shape:
        sizes |= {"in_channels": data_shape[0], "in_features": math.prod(data_shape), "context": data_shape[0]}
    return {name: value for name, value in sizes.items() if name in parameters and _is_needed(parameters[name])}


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _made(maker: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    try:
        takes_any = any(p.kind is p.VAR_KEYWORD for p in _parameters(maker).values())
        return maker(**arguments) if takes_any else call_with(maker, arguments, name)
    except MinimandError:
        raise
    except TypeError as error:
        raise MinimandError(
            f"{name} cannot be made ({error}); expected arguments, as in file.py:Net(width=64)."
        ) from error
    except Exception as error:
        raise MinimandError(f"{name} raises {type(error).__name__}: {error}") from error
