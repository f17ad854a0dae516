"""A state: a tensor, or a tuple of states."""

from typing import Any


def leaves(state: Any) -> list[Any]:
    """The tensors of a state, in order."""
    return [leaf for part in state for leaf in leaves(part)] if isinstance(state, tuple | list) else [state]


def rebuild(state: Any, values: list[Any]) -> Any:
    """A state of the same nesting with other tensors."""
    remaining = iter(values)

    def fill(part: Any) -> Any:
        return tuple(fill(p) for p in part) if isinstance(part, tuple | list) else next(remaining)

    return fill(state)
