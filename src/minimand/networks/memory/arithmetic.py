"""The states of a stage that runs backwards, in floating-point numbers or, to the last bit, in integers.

A state is the query q_t and the differences d_(t-1), d_(t-2) ... of `theory.dynamics.recurrence`, newest first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from .bit_store import BitStore, Factor

Scalar = float | Tensor


@dataclass(frozen=True)
class Step:
    """The factors of one call: d_t = own q_t + sum of lags[j] d_(t-j) + sum of gains T(q_t)."""

    gains: tuple[Scalar, ...]
    own: Scalar | None
    lags: dict[int, Scalar]
    oldest: int | None
    """The j of the difference that leaves the state, d_(t-j); None where none does."""
    is_kept: bool
    """Whether that difference has to be kept, as d_t says nothing of it."""
    divisor: Factor | None
    """The factor of that difference for integers."""


class States(Protocol):
    """A state that goes forward, and back."""

    query: Tensor
    """q_t, as the blocks are asked at it."""

    def advance(self, step: Step, answers: Sequence[Tensor]) -> Tensor:
        """Go on by a step; gives d_t, or a tensor of its shape."""
        ...

    def look_back(self) -> None:
        """Make `query` that of the step before, whose answers `retreat` asks for."""
        ...

    def retreat(self, step: Step, answers: Sequence[Tensor]) -> dict[int, Tensor]:
        """Go back by a step; gives the differences that it read, by j."""
        ...

    def difference(self, i: int) -> Tensor:
        """The i-th difference, the newest first."""
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
        self.kept: list[Tensor] = []
        self.remainder: Tensor | None = None
        """What is left of the first step when it was run back, which would be 0 without rounding."""

    def advance(self, step: Step, answers: Sequence[Tensor]) -> Tensor:
        oldest = step.oldest
        if oldest is not None:
            older = self.differences.pop()
            if step.is_kept:
                self.kept.append(older)
            total = None if step.is_kept else older * step.lags[oldest]
        else:
            total = None
        d = self._sum(step, answers, total)
        self.differences.insert(0, d)
        self.query = self.query + d
        return d

    def look_back(self) -> None:
        self.query = self.query - self.differences[0]

    def retreat(self, step: Step, answers: Sequence[Tensor]) -> dict[int, Tensor]:
        d = self.differences.pop(0)
        lagged = {j: self.differences[j - 1] for j in step.lags if j != step.oldest}
        if step.oldest is None and not lagged:
            self.remainder = d - self._sum(step, answers, None)
            return {}
        if step.oldest is None:
            return lagged
        if step.is_kept:
            older = self.kept.pop()
        else:
            older = (d - self._sum(step, answers, None)).div_(step.lags[step.oldest])
            lagged[step.oldest] = older
        self.differences.append(older)
        return lagged

    def difference(self, i: int) -> Tensor:
        return self.differences[i]

    def checked(self, output: Tensor) -> Tensor:
        return output

    def packed(self) -> tuple[list[Tensor], "Callable[[Sequence[Tensor]], Floats]"]:
        n = 1 + len(self.differences)

        def unpacked(tensors: Sequence[Tensor]) -> Floats:
            states = Floats(tensors[0], tensors[1:n])
            states.kept = list(tensors[n:])
            return states

        return [self.query, *self.differences, *self.kept], unpacked

    def _sum(self, step: Step, answers: Sequence[Tensor], total: Tensor | None) -> Tensor:
        """All that d_t is the sum of, but for the difference that leaves the state, which is `total`, if any."""
        terms = [*zip(answers, step.gains, strict=True)]
        terms += [(self.differences[j - 1], factor) for j, factor in step.lags.items() if j != step.oldest]
        if step.own is not None:
            terms.append((self.query, step.own))
        is_own = total is not None  # to be written into
        for x, factor in terms:
            if total is None:
                is_own = isinstance(factor, Tensor) or factor != 1
                total = x.to(self.query.dtype) * factor if is_own else x.to(self.query.dtype)
            else:
                total = plus(total, x, factor, in_place=is_own)
                is_own = True
        return torch.zeros_like(self.query) if total is None else total


class Integers:
    """States as multiples of 2^-44 in 64 bits: each step back undoes its step forward to the last bit."""

    UNIT = 2.0**44
    LARGEST = 2.0**62 / UNIT

    def __init__(self, query: Tensor, differences: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.whole = _rounded(query.double().clone())
        self.differences = [_rounded(d.double().clone()) for d in differences]
        self.query = self._floating(self.whole)
        self.store = BitStore(self.whole)
        self.kept: list[Tensor] = []
        self.reach = query.double().abs().amax() + sum(d.double().abs().amax() for d in differences)
        """No entry of a state is larger in absolute value."""
        self.sizes = [d.double().abs().amax() for d in differences]

    def advance(self, step: Step, answers: Sequence[Tensor]) -> Tensor:
        added = self._added(step, answers, has_oldest=step.oldest is not None)
        size = torch.stack(added.aminmax()).abs().amax()
        d = _rounded(added)
        if step.oldest is not None:
            older, was = self.differences.pop(), self.sizes.pop()
            if step.is_kept:
                self.kept.append(older)
            else:
                d.add_(self.store.scaled(older, _divisor(step)))
                size = size + was * _magnitude(step.lags[step.oldest])
        self.differences.insert(0, d)
        self.sizes.insert(0, size)
        self.reach = self.reach + size
        self.whole = self.whole + d
        self.query = self._floating(self.whole)
        return self.query.new_empty(()).expand_as(self.query)

    def look_back(self) -> None:
        self.whole = self.whole - self.differences[0]
        self.query = self._floating(self.whole)

    def retreat(self, step: Step, answers: Sequence[Tensor]) -> dict[int, Tensor]:
        d = self.differences.pop(0)
        lagged = {j: self._floating(self.differences[j - 1]) for j in step.lags if j != step.oldest}
        if step.oldest is not None:
            if step.is_kept:
                older = self.kept.pop()
            else:
                scaled = _rounded(self._added(step, answers, True)).neg_().add_(d)
                older = self.store.unscaled(scaled, _divisor(step))
                lagged[step.oldest] = self._floating(older)
            self.differences.append(older)
        return lagged

    def difference(self, i: int) -> Tensor:
        return self._floating(self.differences[i])

    def checked(self, output: Tensor) -> Tensor:
        reach = float(self.reach)
        if not math.isfinite(reach):
            return output * math.nan  # as no integer says so
        if reach > self.LARGEST:
            raise MinimandError(
                f"states reach up to {reach:.3g}, beyond the {self.LARGEST:.3g} that exact=True can hold; expected "
                "exact=False, or memory='checkpoint'."
            )
        return output

    def packed(self) -> tuple[list[Tensor], "Callable[[Sequence[Tensor]], Integers]"]:
        n, m = 1 + len(self.differences), 1 + len(self.differences) + len(self.kept)
        dtype, reach = self.dtype, self.reach
        remainders, unpacked_store = self.store.packed()

        def unpacked(tensors: Sequence[Tensor]) -> Integers:
            states = Integers.__new__(Integers)
            states.dtype, states.reach, states.sizes = dtype, reach, []
            states.whole, *states.differences = tensors[:n]
            states.query = states.whole  # until it is looked back at
            states.kept, states.store = list(tensors[n:m]), unpacked_store(tensors[m:])
            return states

        return [self.whole, *self.differences, *self.kept, *remainders], unpacked

    def _added(self, step: Step, answers: Sequence[Tensor], has_oldest: bool) -> Tensor:
        """All that d_t is the sum of, but for the difference that leaves the state."""
        terms = [*zip(answers, step.gains, strict=True)]
        terms += [(self.query, step.own)] if step.own is not None else []
        for j, factor in step.lags.items():
            if not (has_oldest and j == step.oldest):
                terms.append((self.differences[j - 1].double().div_(self.UNIT), factor))
        if not terms:
            return torch.zeros_like(self.whole, dtype=torch.double)
        (first, factor), *rest = terms
        total = first.double() * factor  # new, as it is written into
        for x, factor in rest:
            total = plus(total, x, factor, in_place=True)
        return total

    def _floating(self, whole: Tensor) -> Tensor:
        return whole.double().div_(self.UNIT).to(self.dtype)


def _rounded(x: Tensor) -> Tensor:
    """Multiples of the unit; x is written into."""
    return x.mul_(Integers.UNIT).round_().to(torch.int64)


def _divisor(step: Step) -> Factor:
    assert step.divisor is not None  # a difference that leaves a state and is not kept has one
    return step.divisor


def _magnitude(factor: Scalar) -> Scalar:
    return factor.detach().abs().amax().double() if isinstance(factor, Tensor) else abs(factor)


def plus(u: Tensor, v: Tensor, factor: Scalar, in_place: bool = False) -> Tensor:
    """u + factor v in the precision of u; in its memory too, if that is allowed."""
    if isinstance(factor, Tensor):
        v, factor = v.to(u.dtype), factor.to(u.dtype)
        return u.addcmul_(v, factor) if in_place else torch.addcmul(u, v, factor)
    return u.add_(v, alpha=factor) if in_place else torch.add(u, v, alpha=factor)


def times(x: Tensor, factor: Scalar) -> Tensor:
    """x times a factor; x itself for 1."""
    return x if not isinstance(factor, Tensor) and factor == 1 else x * factor
