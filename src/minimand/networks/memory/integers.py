"""The states of a stage that runs backwards to the last bit: integers, and integers times a factor."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from .arithmetic import Step, plus
from .scaled import Scalar, Scaled

_PART = 2**16
"""Numbers that are worked on at once: fresh memory for all of them would cost more time than the sums."""


class Integers:
    """States as multiples of a unit, in double precision: each step back undoes its step forward to the last bit."""

    def __init__(self, query: Tensor, differences: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.unit = 2.0 ** (-40 if dtype == torch.double else -34)
        self.whole = self._rounded(query)
        self.query = self._floating(self.whole)
        self.differences = [Scaled(self._rounded(d), d.double().abs().amax()) for d in differences]
        self.stored_differences: list[Scaled] = []
        self.reach = query.double().abs().amax() + sum(d.size for d in self.differences)
        """No entry of a state is larger in absolute value."""
        self.widest = torch.zeros_like(self.reach)
        """No integer is larger in absolute value, as a multiple of the unit."""

    @property
    def largest(self) -> float:
        """The largest number whose sums are not rounded."""
        return 2.0**52 * self.unit

    def advance(self, step: Step, answers: Sequence[Tensor]) -> Tensor:
        d, query = self._oldest(step), torch.empty_like(self.query)
        sizes = [torch.zeros_like(self.reach)]
        for whole, own, after, *terms in self._cut(step, d, self.whole, d.whole, query, *self._read(step, answers)):
            added = self._added(step, d, terms)
            if added is not None:
                own.add_(added)
                sizes += added.aminmax()
            whole.add_((own * d.factor).round_())
            torch.mul(whole.to(self.dtype), self.unit, out=after)
        d.size = d.size + torch.stack(sizes).abs().amax() * (d.largest * self.unit)
        self.differences.insert(0, d)
        self.reach = self.reach + d.size
        self.widest = torch.maximum(self.widest, d.size / d.smallest)
        self.query = query
        return query.new_empty(()).expand_as(query)

    def look_back(self) -> None:
        d, query = self.differences[0], torch.empty_like(self.whole, dtype=self.dtype)
        for whole, own, after in self._cut(None, d, self.whole, d.whole, query):
            whole.sub_((own * d.factor).round_())
            torch.mul(whole.to(self.dtype), self.unit, out=after)
        self.query = query

    def retreat(self, step: Step, answers: Sequence[Tensor]) -> None:
        d = self.differences.pop(0)
        if step.is_kept:
            self.differences.append(self.stored_differences.pop())
        elif step.oldest is not None:
            for own, *terms in self._cut(step, d, d.whole, *self._read(step, answers)):
                added = self._added(step, d, terms)
                if added is not None:
                    own.sub_(added)
            d.undo()
            self.differences.append(d)

    def difference(self, i: int) -> Tensor:
        return self.differences[i].values(self.unit).to(self.dtype)

    def checked(self, output: Tensor) -> Tensor:
        reach = float(torch.maximum(self.reach, self.widest))
        if not math.isfinite(reach):
            return output * math.nan  # an integer cannot be NaN, so the output says that a state was
        if reach > self.largest:
            raise MinimandError(
                f"states reach up to {reach:.3g}, beyond the {self.largest:.3g} that exact=True can hold; expected "
                "exact=False, or memory='checkpoint'."
            )
        return output

    def packed(self) -> tuple[list[Tensor], "Callable[[Sequence[Tensor]], Integers]"]:
        numbers = [x.packed() for x in [*self.differences, *self.stored_differences]]
        dtype, unit, reach, widest, n = self.dtype, self.unit, self.reach, self.widest, len(self.differences)

        def unpacked(tensors: Sequence[Tensor]) -> Integers:
            states, rest = Integers.__new__(Integers), list(tensors[1:])
            states.dtype, states.unit, states.reach, states.widest = dtype, unit, reach, widest
            states.whole = tensors[0].clone()  # a clone, as steps write into the state
            states.query = states.whole  # a placeholder, until look_back writes the query
            parts = []
            for own, restored in numbers:
                parts.append(restored(rest[: len(own)]))
                del rest[: len(own)]
            states.differences, states.stored_differences = parts[:n], parts[n:]
            return states

        return [self.whole, *(x for own, _ in numbers for x in own)], unpacked

    def _oldest(self, step: Step) -> Scaled:
        """The difference that leaves the state, times its factor; zero where d_t is made of none."""
        if step.oldest is not None:
            older = self.differences.pop()
            if not step.is_kept:
                older.multiply(step.lags[step.oldest])
                return older
            self.stored_differences.append(older)
        return Scaled(torch.zeros_like(self.whole), torch.zeros_like(self.reach))

    def _read(self, step: Step, answers: Sequence[Tensor]) -> list[Tensor]:
        """The tensors that all else of d_t is the sum of."""
        lagged = [self.differences[j - 1].whole for j in step.lags if j != step.oldest]
        return [*answers, *([self.query] if step.own is not None else []), *lagged]

    def _added(self, step: Step, d: Scaled, read: Sequence[Tensor]) -> Tensor | None:
        """All else that d_t is the sum of, as integers for the factor of d, from parts of what `_read` gives."""
        factors: list[Scalar] = [*step.gains, *([step.own] if step.own is not None else [])]
        for j, lag in step.lags.items():
            if j != step.oldest:
                factors.append(self.differences[j - 1].factor * (_double(lag) * self.unit))
        total = None
        for x, factor in zip(read, factors, strict=True):
            scale = _double(factor) / (d.factor * self.unit)
            if total is None:
                total = x.to(torch.double, copy=True).mul_(scale)
            else:
                total = plus(total, x.double(), scale, in_place=True)
        return None if total is None else total.round_()

    def _cut(self, step: Step | None, d: Scaled, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Parts of several tensors at once that fit into a processor's cache; whole ones where factors are tensors."""
        factors = [d.factor, *(x.factor for x in self.differences)]
        factors += [*step.gains, step.own, *step.lags.values()] if step is not None else []
        whole, size = tensors[0], tensors[0].numel()
        if size <= _PART or not whole.is_cpu or any(isinstance(factor, Tensor) for factor in factors):
            yield tensors
            return
        yield from zip(*(x.split(max(1, _PART * len(whole) // size)) for x in tensors), strict=True)

    def _rounded(self, x: Tensor) -> Tensor:
        return (x.double() / self.unit).round_()

    def _floating(self, whole: Tensor) -> Tensor:
        return whole.to(self.dtype, copy=True).mul_(self.unit)


def _double(factor: Scalar) -> Scalar:
    return factor.double() if isinstance(factor, Tensor) else factor
