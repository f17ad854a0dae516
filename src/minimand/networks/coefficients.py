"""Learnable and drawn coefficients as tensors: one flat parameter each, read layer by layer and entry by entry."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from ..algorithms import Algorithm, Drawn, Learned, Read, Table, each_entry, filled
from ..theory.scalars import Number

Vectors = Mapping[str, Tensor]
"""The parameter of each learnable coefficient by name: of all layers, entries and channels one after another."""

Values = dict[str, tuple[Any, ...]]
"""The tables of coefficients by name and layer: a tensor or number each, or nested tuples of such."""


class Coefficients:
    """The coefficients of an algorithm, run for some layers, that are tensors: the learnable and the drawn ones."""

    def __init__(self, algorithm: Algorithm, layers: int) -> None:
        self.algorithm, self.layers = algorithm, layers
        self.in_floats = algorithm.in_floats()
        self.learnable, self.drawn = algorithm.learnable(), algorithm.drawn()

    @property
    def names(self) -> tuple[str, ...]:
        """The learnable and the drawn coefficients."""
        return (*self.learnable, *self.drawn)

    def initial(self) -> dict[str, nn.Parameter]:
        """A new parameter for each learnable coefficient, every entry at its initial value."""
        return {
            name: nn.Parameter(torch.full((self._entries(name) * (c.channels or 1),), float(c.initial)))
            for name, c in self.learnable.items()
        }

    def values(self, vectors: Vectors, like: Tensor | None = None, training: bool = False) -> Values:
        """The table of each coefficient in each layer, within its bounds, for states of a tensor's shape."""
        values: Values = {name: self._tables(name, vector, like) for name, vector in self.clamped(vectors).items()}
        for name, c in self.drawn.items():
            values[name] = tuple(_draw(c, like, training) for _ in range(self.layers))
        return values

    def bound(self, values: Values) -> Algorithm:
        """The algorithm with values as its coefficients."""
        return self.in_floats.rebind(**{name: entry(tables) for name, tables in values.items()})

    def unknown(self) -> Algorithm:
        """The algorithm with a symbol for each entry of these coefficients: (name, layer, indices ...)."""
        return self.algorithm.rebind(**{name: Read(lambda k, name=name: self._symbols(name, k)) for name in self.names})

    def learned(self, vectors: Vectors) -> Algorithm:
        """The algorithm with the current values of its learnable coefficients as numbers; of channels their mean."""
        values = {}
        for name, tables in self.values({n: v.detach() for n, v in vectors.items()}).items():
            if name in self.learnable:
                c = self.learnable[name]
                numbers = tuple(each_entry(lambda v: float(v.mean()), table) for table in tables)
                values[name] = Learned(c.initial, c.low, c.high, c.channels, numbers)
        return self.algorithm.rebind(**values)

    def clamped(self, vectors: Vectors) -> dict[str, Tensor]:
        """The vectors of learnable coefficients, brought within their bounds."""
        within = {}
        for name, c in self.learnable.items():
            vector = vectors[name]
            # The gradient passes the clamp, or a coefficient at its bound could never leave it.
            within[name] = vector + (vector.clamp(float(c.low), float(c.high)) - vector).detach()
        return within

    @torch.no_grad()
    def project(self, vectors: Vectors) -> None:
        """Bring the vectors of learnable coefficients back within their bounds, in place."""
        for name, c in self.learnable.items():
            vectors[name].clamp_(float(c.low), float(c.high))

    def _shapes(self, name: str) -> list[tuple[int, ...]]:
        return [self.algorithm.shape(name, k) for k in range(self.layers)]

    def _entries(self, name: str) -> int:
        return sum(torch.Size(shape).numel() for shape in self._shapes(name))

    def _tables(self, name: str, vector: Tensor, like: Tensor | None) -> tuple[Any, ...]:
        channels = self.learnable[name].channels
        if channels is None:
            entries = iter(vector.unbind())
        else:
            on_maps = like is not None and like.ndim == 4
            if like is not None and like.shape[1 if on_maps else -1] != channels:
                raise MinimandError(
                    f"{type(self.algorithm).__name__}.{name} is learned for channels = {channels}, but the states have "
                    f"{like.shape[1 if on_maps else -1]}; expected that number."
                )
            entries = iter(vector.view(-1, channels, *(1, 1) if on_maps else ()).unbind())
        return tuple(filled(shape, lambda _: next(entries)) for shape in self._shapes(name))

    def _symbols(self, name: str, k: int) -> Table:
        layer = min(k, self.layers - 1)
        return filled(self.algorithm.shape(name, k), lambda index: Number.unknown((name, layer, *index)))


def entry(tables: tuple[Any, ...]) -> Read:
    """The coefficient that has these tables, by layer."""
    # Steps may look one ahead, as y_next = x_next + m(k + 1) (...) does; the last value then serves again.
    return Read(lambda k: tables[min(k, len(tables) - 1)])


def _draw(c: Drawn, like: Tensor | None, training: bool) -> Any:
    if not training or like is None:
        return c.rest
    is_high = torch.rand(len(like), *[1] * (like.ndim - 1), device=like.device) < 0.5
    return torch.where(is_high, float(c.high), float(c.low)).to(like.dtype)
