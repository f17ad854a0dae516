"""Methods by name."""

from typing import Any

from ..calls import call_with, parse_call
from ..names import unknown_name
from .backpropagation import Backpropagation
from .decoupled import Decoupled
from .layerwise import Layerwise
from .method import Method
from .target_propagation import TargetPropagation

METHODS: dict[str, type[Any]] = {
    "backpropagation": Backpropagation,
    "decoupled": Decoupled,
    "layerwise": Layerwise,
    "target_propagation": TargetPropagation,
}


def as_method(text: str) -> Method:
    """The method of a name, with options as in `layerwise(hidden_layers=2)`.

    Raises:
        ValueError: there is none, or it has no such option.
    """
    name, options = parse_call(text, "method")
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return call_with(METHODS[name], options, name)
