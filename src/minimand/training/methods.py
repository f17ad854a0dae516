"""Methods by name."""

from typing import Any

from ..calls import make_named
from .backpropagation import Backpropagation
from .layerwise import Layerwise
from .method import Method
from .target_propagation import TargetPropagation

METHODS: dict[str, type[Any]] = {
    "backpropagation": Backpropagation,
    "layerwise": Layerwise,
    "target_propagation": TargetPropagation,
}


def as_method(text: str) -> Method:
    """The method of a name, with options as in `layerwise(hidden_layers=2)`.

    Raises:
        ValueError: there is none, or it has no such option.
    """
    return make_named(text, "method", METHODS)
