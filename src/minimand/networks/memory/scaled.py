"""Integers times a factor: a product changes the factor alone, and is undone to the last bit.

A product with a momentum below 1 makes numbers finer than before, by log2(1 / momentum) bits each, and these bits are
what running back needs (Maclaurin, Duvenaud & Adams 2015 divide by it and store the remainders instead). Where the
factor falls below 2^-8, the last 8 bits are put aside, a byte for each number, and the factor is 2^8 times as large.

Integers are held in double precision, in which they are added without rounding up to 2^53 and faster than in 64 bits.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Scalar = float | Tensor

_BYTE = 256.0


@dataclass(frozen=True)
class _Aside:
    """The last bits of numbers that were divided by `shift`; None of them where they were multiplied by it."""

    low: Tensor | None
    shift: Scalar


class Scaled:
    """Numbers as integers times a factor, which is one for all or a tensor, for each sample or channel."""

    def __init__(self, whole: Tensor, size: Tensor) -> None:
        self.whole = whole
        self.factor: Scalar = 1.0
        self.size = size
        """No number is larger in absolute value."""
        self._aside: list[_Aside] = []
        self._before: list[tuple[Scalar, int]] = []
        """The factor before each product, and how often bits had been put aside."""

    def values(self, unit: float = 1.0) -> Tensor:
        """The numbers that are meant, in doubles, times a unit."""
        return self.whole * (self.factor * unit)

    @property
    def smallest(self) -> Scalar:
        """The smallest factor, in absolute value."""
        return self.factor.abs().amin() if isinstance(self.factor, Tensor) else abs(self.factor)

    @property
    def largest(self) -> Scalar:
        """The largest factor, in absolute value."""
        return self.factor.abs().amax() if isinstance(self.factor, Tensor) else abs(self.factor)

    def multiply(self, by: Scalar) -> None:
        """Multiply by a number other than 0."""
        self._before.append((self.factor, len(self._aside)))
        if isinstance(by, Tensor):
            by = by.double()
        self.size = self.size * (by.abs().amax() if isinstance(by, Tensor) else abs(by))
        self.factor = self.factor * by
        while float(self.smallest) < 1 / _BYTE:
            shift = _shift(abs(self.factor) < 1 / _BYTE)
            high = torch.floor(self.whole / shift)
            self._aside.append(_Aside((self.whole - high * shift).to(torch.uint8), shift))
            self.whole, self.factor = high, self.factor * shift
        while 1 < float(self.largest) < math.inf:
            shift = _shift(abs(self.factor) > 1)
            self._aside.append(_Aside(None, shift))
            self.whole, self.factor = self.whole * shift, self.factor / shift

    def undo(self) -> None:
        """Undo the last product that was not undone yet, on the integers as they were after it."""
        factor, count = self._before.pop()
        while len(self._aside) > count:
            aside = self._aside.pop()
            self.whole = self.whole / aside.shift if aside.low is None else self.whole * aside.shift + aside.low
        self.factor = factor

    def packed(self) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], "Scaled"]]:
        """The tensors that are held, and what makes such numbers of them again."""
        size, factor, before, aside = self.size, self.factor, list(self._before), list(self._aside)
        lows = [a.low for a in aside if a.low is not None]

        def unpacked(tensors: Sequence[Tensor]) -> Scaled:
            # A clone, as steps write into the state.
            numbers, rest = Scaled(tensors[0].clone(), size), iter(tensors[1:])
            numbers.factor, numbers._before = factor, list(before)
            numbers._aside = [a if a.low is None else _Aside(next(rest), a.shift) for a in aside]
            return numbers

        return [self.whole, *lows], unpacked


def _shift(condition: Tensor | bool) -> Scalar:
    """The factor by which numbers move: 2^8 where the condition holds, 1 elsewhere."""
    return torch.where(condition, _BYTE, 1.0).double() if isinstance(condition, Tensor) else _BYTE
