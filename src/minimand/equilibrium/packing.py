"""States as one matrix: a row for each sample, the entries of all its tensors after one another."""

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .._support.errors import MinimandError
from ..algorithms import leaves, rebuild


class Packing:
    """The way between a state, a tensor or a tuple of tensors (N, ...), and a matrix (N, D).

    Images in channels_last memory stay so: neither way copies a single tensor.
    """

    def __init__(self, state: Any) -> None:
        parts = leaves(state)
        for part in parts:
            if not isinstance(part, Tensor) or not part.is_floating_point() or part.ndim == 0:
                what = f"a tensor {part.dtype} of shape {tuple(part.shape)}" if isinstance(part, Tensor) else repr(part)
                raise MinimandError(f"a state holds {what}; expected floating-point tensors, samples first.")
        self.samples = len(parts[0])
        if not self.samples:
            raise MinimandError(f"a state of shape {tuple(parts[0].shape)} has no samples; expected at least one.")
        if any(len(part) != self.samples for part in parts):
            sizes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise MinimandError(f"a state has tensors {sizes}; expected one first dimension, that of the samples.")
        self._dtypes = [part.dtype for part in parts]
        self._orders = [_order(part) for part in parts]
        self.shapes = [tuple(part.shape[1:]) for part in parts]
        self._sizes = [part[0].numel() for part in parts]
        self.dtype = reduce(torch.promote_types, (part.dtype for part in parts), torch.float32)
        self.coarsest = max((part.dtype for part in parts), key=lambda dtype: torch.finfo(dtype).eps)
        self._nesting = rebuild(state, [None] * len(parts))

    def pack(self, state: Any) -> Tensor:
        """The matrix of a state, at least in float32."""
        rows = [p.permute(order).flatten(1) if order else p.flatten(1) for p, order in self._parts(state)]
        rows = [row if row.ndim == 2 else row.unsqueeze(1) for row in rows]
        return (rows[0] if len(rows) == 1 else torch.cat([row.to(self.dtype) for row in rows], 1)).to(self.dtype)

    def unpack(self, rows: Tensor) -> Any:
        """The state of a matrix, each tensor of its own dtype."""
        parts = []
        layout = zip(rows.split(self._sizes, 1), self._orders, self.shapes, self._dtypes, strict=True)
        for row, order, shape, dtype in layout:
            if order:
                inverse = [order.index(i) for i in range(len(order))]
                part = row.view(len(rows), *[shape[i - 1] for i in order[1:]]).permute(inverse)
            else:
                part = row.view(len(rows), *shape)
            parts.append(part.to(dtype))
        return rebuild(self._nesting, parts)

    def _parts(self, state: Any) -> list[tuple[Tensor, tuple[int, ...] | None]]:
        return list(zip(leaves(state), self._orders, strict=True))

    def check(self, answer: Any, samples: int, name: str) -> None:
        """Raise MinimandError unless a block's answer has the shapes of the state that it was given."""
        expected = [(samples, *shape) for shape in self.shapes]
        parts = leaves(answer)
        if not all(isinstance(part, Tensor) for part in parts):
            kind = next(type(part).__name__ for part in parts if not isinstance(part, Tensor))
            raise MinimandError(f"{name} returned {kind}; a block of an equilibrium has to return tensors.")
        shapes = [tuple(part.shape) for part in parts]
        if shapes != expected:
            raise MinimandError(
                f"{name} maps a state of {_shown(expected)} to {_shown(shapes)}; z = block(z, x) needs one shape. "
                "Change shapes before or after the equilibrium, or pass start= of the shape that the block returns."
            )


def _order(part: Tensor) -> tuple[int, ...] | None:
    """The order of dimensions in which a tensor lies in memory, where it is channels_last; else None."""
    if part.ndim == 4 and not part.is_contiguous() and part.is_contiguous(memory_format=torch.channels_last):
        return (0, 2, 3, 1)
    return None


def _shown(shapes: list[tuple[int, ...]]) -> str:
    return str(shapes[0]) if len(shapes) == 1 else f"the tensors {', '.join(map(str, shapes))}"
