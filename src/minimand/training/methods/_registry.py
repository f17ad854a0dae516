"""Training methods by name: those in this folder, and those of other packages."""

from typing import Any

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ..._support.names.calls import call_with
from ..._support.names.registry import Registry, subclass_of
from .method import Method

METHODS: Registry[type[Method]] = Registry("method", "methods", __name__.rpartition(".")[0], subclass_of(Method))
"""The training methods by name; a file in this folder registers its own."""


def list_methods() -> dict[str, str]:
    """The names of all training methods, each with a line about it."""
    return METHODS.lines()


def as_method(method: Any) -> Method:
    """The method that an object, a class or a text such as "layerwise(hidden_layers=2)" stands for."""
    if isinstance(method, str):
        return METHODS.make(method)
    if isinstance(method, Method):
        return method
    if isinstance(method, type) and issubclass(method, Method):
        return method()
    shown = "a function" if callable(method) and hasattr(method, "__qualname__") else type(method).__name__
    if callable(getattr(method, "solve", None)):
        raise MinimandError(
            f"method is {shown}, which takes all samples at once and no steps; call its solve(model, x, y)."
        )
    raise WrongTypeError(f"method is {shown}; expected a name ({', '.join(METHODS)}) or one such as mm.Layerwise().")


def method_from_config(config: Any) -> Method:
    """The method that `as_config` made plain values of."""
    name, options = next(iter(config.items())) if isinstance(config, dict) else (config, {})
    classes = {cls.__name__: cls for cls in METHODS.values()}
    if name not in classes:
        raise unknown_name("method", str(name), classes)
    return call_with(classes[name], options, name)
