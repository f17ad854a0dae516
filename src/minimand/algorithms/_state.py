"""A state: a tensor, or a tuple (or list) of states."""

from collections.abc import Iterator
from typing import Any


def leaves(state: Any) -> list[Any]:
    """The tensors of a state, in order."""
    return [leaf for part in state for leaf in leaves(part)] if isinstance(state, tuple | list) else [state]


def rebuild(state: Any, values: list[Any]) -> Any:
    """A state of the same nesting with other tensors."""
    return _fill(state, iter(values))


def _fill(part: Any, values: Iterator[Any]) -> Any:
    # No closure that calls itself: such a cycle would hold the tensors until the garbage collector comes.
    if not isinstance(part, tuple | list):
        return next(values)
    filled = [_fill(p, values) for p in part]
    return type(part)(*filled) if hasattr(part, "_fields") else type(part)(filled)  # a NamedTuple takes each
