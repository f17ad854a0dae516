"""A state: a tensor, or a tuple (or list) of states."""

from typing import Any


def leaves(state: Any) -> list[Any]:
    """The tensors of a state, in order."""
    return [leaf for part in state for leaf in leaves(part)] if isinstance(state, tuple | list) else [state]


def rebuild(state: Any, values: list[Any]) -> Any:
    """A state of the same nesting with other tensors."""
    remaining = iter(values)

    def fill(part: Any) -> Any:
        if not isinstance(part, tuple | list):
            return next(remaining)
        filled = [fill(p) for p in part]
        return type(part)(*filled) if hasattr(part, "_fields") else type(part)(filled)  # a NamedTuple takes each

    return fill(state)
