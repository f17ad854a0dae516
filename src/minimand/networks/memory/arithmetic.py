"""The states of a stage that runs backwards, and how they do in floating point.

A state is the query q_t and the differences d_(t-1), d_(t-2) ... of `theory.dynamics.recurrence`, newest first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .scaled import Scalar


@dataclass(frozen=True)
class Step:
    """The factors of one call: d_t = own q_t + sum of lags[j] d_(t-j) + sum of gains T(q_t)."""

    gains: tuple[Scalar, ...]
    own: Scalar | None
    lags: dict[int, Scalar]
    oldest: int | None
    """The j of the difference that leaves the state, d_(t-j); None where none does."""
    is_kept: bool
    """Whether the difference that leaves the state has to be kept, as d_t says nothing of it."""


class States(Protocol):
    """A state that goes forward, and back."""

    query: Tensor
    """The query q_t, at which the blocks are asked."""

    def advance(self, step: Step, answers: Sequence[Tensor]) -> Tensor:
        """Go on by a step; gives d_t, or a tensor of its shape."""
        ...

    def look_back(self) -> None:
        """Make `query` that of the step before, whose answers `retreat` asks for."""
        ...

    def retreat(self, step: Step, answers: Sequence[Tensor]) -> None:
        """Undo the step that was made last."""
        ...

    def difference(self, i: int) -> Tensor:
        """The i-th difference, the newest first: after going back by step t, d_(t-1-i)."""
        ...

    def checked(self, output: Tensor) -> Tensor:
        """The output of a stage that ended in this state."""
        ...

    def packed(self) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], "States"]]:
        """What the state holds, and what makes such a state of it again."""
        ...


class Floats:
    """States in floating point, of at least single precision."""

    def __init__(self, query: Tensor, differences: Sequence[Tensor]) -> None:
        self.query, self.differences = query, list(differences)
        self.stored_differences: list[Tensor] = []
        self.remainder: Tensor | None = None
        """What is left of the first step when it was run back, by the size of the state, 0 without rounding."""

    def advance(self, step: Step, answers: Sequence[Tensor]) -> Tensor:
        oldest = step.oldest
        if oldest is not None:
            older = self.differences.pop()
            if step.is_kept:
                self.stored_differences.append(older)
            total = None if step.is_kept else older * step.lags[oldest]
        else:
            total = None
        d = self._sum(step, answers, total)
        self.differences.insert(0, d)
        self.query = self.query + d
        return d

    def look_back(self) -> None:
        self.query = self.query - self.differences[0]

    def retreat(self, step: Step, answers: Sequence[Tensor]) -> None:
        d = self.differences.pop(0)
        if step.oldest is None and not step.lags:
            left = (d - self._sum(step, answers, None)).norm()
            self.remainder = relative(left, torch.maximum(self.query.norm(), d.norm()))
        elif step.is_kept:
            self.differences.append(self.stored_differences.pop())
        elif step.oldest is not None:
            self.differences.append((d - self._sum(step, answers, None)).div_(step.lags[step.oldest]))

    def difference(self, i: int) -> Tensor:
        return self.differences[i]

    def checked(self, output: Tensor) -> Tensor:
        return output

    def packed(self) -> tuple[list[Tensor], "Callable[[Sequence[Tensor]], Floats]"]:
        n = 1 + len(self.differences)

        def unpacked(tensors: Sequence[Tensor]) -> Floats:
            states = Floats(tensors[0], tensors[1:n])
            states.stored_differences = list(tensors[n:])
            return states

        return [self.query, *self.differences, *self.stored_differences], unpacked

    def _sum(self, step: Step, answers: Sequence[Tensor], total: Tensor | None) -> Tensor:
        """All that d_t is the sum of, but for the difference that leaves the state, which is `total`, if any."""
        terms = [*zip(answers, step.gains, strict=True)]
        terms += [(self.differences[j - 1], factor) for j, factor in step.lags.items() if j != step.oldest]
        if step.own is not None:
            terms.append((self.query, step.own))
        is_own = total is not None  # only a tensor of our own may be written into
        for x, factor in terms:
            if total is None:
                is_own = isinstance(factor, Tensor) or factor != 1
                total = x.to(self.query.dtype) * factor if is_own else x.to(self.query.dtype)
            else:
                total = plus(total, x, factor, in_place=is_own)
                is_own = True
        return torch.zeros_like(self.query) if total is None else total


def relative(error: Tensor, size: Tensor) -> Tensor:
    """An error by the size of what it is of; the error itself where that is 0."""
    return torch.where(size > 0, error / size, error)


def plus(u: Tensor, v: Tensor, factor: Scalar, in_place: bool = False) -> Tensor:
    """u + factor v in the precision of u; in its memory too, if that is allowed."""
    if isinstance(factor, Tensor):
        v, factor = v.to(u.dtype), factor.to(u.dtype)
        return u.addcmul_(v, factor) if in_place else torch.addcmul(u, v, factor)
    return u.add_(v, alpha=factor) if in_place else torch.add(u, v, alpha=factor)


def times(x: Tensor, factor: Scalar) -> Tensor:
    """x times a factor; x itself for 1."""
    return x if not isinstance(factor, Tensor) and factor == 1 else x * factor
