"""Parameters and buffers by the places where modules hold them, so that a module can run again with those it had."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import MisuseError
from .internals import own_buffers, own_parameters, version

Place = tuple[dict[str, Any], str, Tensor]
"""The dictionary that a module keeps a parameter or buffer in, its name there, and the tensor."""


def places_in(modules: Iterable[nn.Module]) -> list[Place]:
    """The parameters that modules hold themselves; but for sharded ones, which FSDP takes away and brings back."""
    tables = [own_parameters(module) for module in modules]
    named = [(table, name, p) for table in tables for name, p in table.items() if p is not None]
    return [(table, name, p) for table, name, p in named if not hasattr(p, "placements")]


def buffers_in(modules: Iterable[nn.Module]) -> list[Place]:
    """The places of the buffers that modules hold themselves."""
    tables = [own_buffers(module) for module in modules]
    return [(table, name, b) for table in tables for name, b in table.items() if b is not None]


def cut_off(places: Iterable[Place]) -> list[Place]:
    """Places with leaves for the parameters that were computed, so that a gradient stops there and goes no further."""
    leaves = {id(p): p.detach().requires_grad_() for _, _, p in places if not p.is_leaf}
    return [(table, name, leaves.get(id(p), p)) for table, name, p in places]


@contextmanager
def swapped(places: Sequence[Place]) -> Iterator[None]:
    """A context in which tensors are in their places: those that a module had when it ran first."""
    others = [(table, name, table[name], p) for table, name, p in places if table.get(name) is not p]
    for table, name, _, p in others:
        table[name] = p
    try:
        yield
    finally:
        for table, name, other, _ in others:
            table[name] = other


def versions_of(places: Iterable[Place]) -> list[int]:
    """The number of times that each of some parameters was written into."""
    return [version(p) for _, _, p in places]


def check_unwritten(places: Iterable[Place], versions: Sequence[int]) -> None:
    """Raise MisuseError where a parameter was written into since, so that a second run would not be like the first."""
    for (_, name, p), before in zip(places, versions, strict=True):
        if version(p) != before:
            raise MisuseError(
                f"{name} {tuple(p.shape)} was written into between a forward pass and its backward pass, in which the "
                "block runs again; expected the backward pass before the optimizer's step."
            )
