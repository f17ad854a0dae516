"""Learnable and drawn coefficients as tensors: one flat parameter each, read layer by layer and entry by entry."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from ..algorithms import Algorithm, Drawn, Learned, Read, Table, each_entry, filled
from ..theory.scalars import Number

Vectors = Mapping[str, Tensor]
"""The parameter of each learnable coefficient by name: of all layers, entries and channels one after another."""

REWIRED = "rewired_"
"""How the names of the parameters begin that are coefficients of an algorithm which hooks run in a model."""

Shape = tuple[int, ...]
Values = dict[str, tuple[Any, ...]]
"""The tables of coefficients by name and layer: a tensor or number each, or nested tuples of such."""


class Coefficients:
    """The coefficients of an algorithm, run for some layers, that are tensors: the learnable and the drawn ones."""

    def __init__(self, algorithm: Algorithm, layers: int) -> None:
        self.algorithm, self.layers = algorithm, layers
        self.in_floats = algorithm.in_floats()
        self.learnable, self.drawn = algorithm.learnable(), algorithm.drawn()
        self.shapes = {name: [algorithm.shape(name, k) for k in range(layers)] for name in self.names}
        # Where each layer begins in the parameter, and the end.
        self._starts = {name: [0, *accumulate(map(math.prod, shapes))] for name, shapes in self.shapes.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The learnable and the drawn coefficients."""
        return (*self.learnable, *self.drawn)

    def initial(self) -> dict[str, nn.Parameter]:
        """A new parameter for each learnable coefficient, every entry at its initial value."""
        return {
            name: nn.Parameter(torch.full((self._starts[name][-1] * (c.channels or 1),), float(c.initial)))
            for name, c in self.learnable.items()
        }

    def values(self, vectors: Vectors, like: Tensor | None = None, training: bool = False) -> Values:
        """The table of each coefficient in each layer, within its bounds, for states of a tensor's shape."""
        values: Values = {
            name: self._tables(name, self._clamped(name, vectors[name]), self.shapes[name], like)
            for name in self.learnable
        }
        for name, c in self.drawn.items():
            values[name] = tuple(_draw(c, like, training) for _ in range(self.layers))
        return values

    def bound(self, values: Values) -> Algorithm:
        """The algorithm with values as its coefficients."""
        return self.in_floats.rebind(**{name: entry(tables) for name, tables in values.items()})

    def bound_by_layer(self, vectors: Vectors, like: Tensor | None = None, training: bool = False) -> Algorithm:
        """The algorithm for one step alone: of its coefficients the tables are made that the step asks for."""
        tables: dict[tuple[str, int], Table] = {}

        def table(name: str, k: int) -> Table:
            layer = min(k, self.layers - 1)
            if (name, layer) not in tables:  # once a pass: what is drawn would differ
                tables[name, layer] = (
                    _draw(self.drawn[name], like, training)
                    if name in self.drawn
                    else self._table(name, vectors[name], layer, like)
                )
            return tables[name, layer]

        return self.in_floats.rebind(**{name: Read(lambda k, name=name: table(name, k)) for name in self.names})

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

    @torch.no_grad()
    def project(self, vectors: Vectors) -> None:
        """Bring the vectors of learnable coefficients back within their bounds, in place."""
        for name, c in self.learnable.items():
            vectors[name].clamp_(float(c.low), float(c.high))

    def _clamped(self, name: str, vector: Tensor) -> Tensor:
        """A learnable coefficient, or a part of it, brought within its bounds."""
        c = self.learnable[name]
        # The gradient passes the clamp, or a coefficient at its bound could never leave it.
        return vector + (vector.clamp(float(c.low), float(c.high)) - vector).detach()

    def _table(self, name: str, vector: Tensor, layer: int, like: Tensor | None) -> Table:
        """The table of a learnable coefficient in one layer, from the parameter of all layers."""
        start, end = (self._starts[name][i] * (self.learnable[name].channels or 1) for i in (layer, layer + 1))
        return self._tables(name, self._clamped(name, vector[start:end]), self.shapes[name][layer : layer + 1], like)[0]

    def _tables(self, name: str, vector: Tensor, shapes: Sequence[Shape], like: Tensor | None) -> tuple[Table, ...]:
        """The tables of a learnable coefficient in some layers, from their part of the parameter."""
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
        return tuple(filled(shape, lambda _: next(entries)) for shape in shapes)

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
