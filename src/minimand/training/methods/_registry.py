"""Methods by name."""

from typing import Any

from ..._support.calls import call_with, make_named
from ..._support.errors import unknown_name
from .backpropagation import Backpropagation
from .local.decoupled import Decoupled
from .local.layerwise import Layerwise
from .method import Method
from .targets.target_propagation import TargetPropagation

METHODS: dict[str, type[Any]] = {
    "backpropagation": Backpropagation,
    "decoupled": Decoupled,
    "layerwise": Layerwise,
    "target_propagation": TargetPropagation,
}


def list_methods() -> dict[str, str]:
    """The names of all training methods, each with a line about it."""
    return {name: str(cls.__doc__).partition("\n")[0] for name, cls in METHODS.items()}


def as_method(text: str) -> Method:
    """The method of a name, with options as in `layerwise(hidden_layers=2)`.

    Raises:
        ValueError: there is none, or it has no such option.
    """
    return make_named(text, "method", METHODS)


def method_from_config(config: Any) -> Method:
    """The method that `as_config` made plain values of.

    Raises:
        ValueError: there is none of that name, or it has no such options.
    """
    name, options = next(iter(config.items())) if isinstance(config, dict) else (config, {})
    classes = {cls.__name__: cls for cls in METHODS.values()}
    if name not in classes:
        raise unknown_name("method", str(name), classes)
    return call_with(classes[name], options, name)
