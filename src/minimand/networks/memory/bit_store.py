"""Products with fractions that can be undone to the last bit (Maclaurin, Duvenaud & Adams 2015, algorithm 3).

What a product with n / d < 1 rounds away is kept in a store of log2(d / n) bits for each number: one integer, from
which a word is put aside whenever it is full.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, log2

import torch
from torch import Tensor

_FINEST = 2**18
"""The largest denominator: that of a momentum that is learned, and nearest to one that is no simple fraction."""
_BITS = 62


@dataclass(frozen=True)
class Factor:
    """A factor as sign * numerator / denominator; of several values, one for each sample or channel, by tensors."""

    numerator: int | Tensor
    denominator: int
    is_negative: bool | Tensor
    smallest: float
    """The smallest numerator over the denominator."""

    @staticmethod
    def of(value: float | Fraction | Tensor) -> "Factor":
        """The nearest such factor; raises ZeroDivisionError for one of 0."""
        if isinstance(value, Tensor) and value.numel() > 1:
            sizes = (value.detach().double().abs() * _FINEST).round().to(torch.int64)
            divisor = int(torch.gcd(torch.tensor(_FINEST, device=sizes.device), sizes).min())
            sizes, denominator = sizes // divisor, _FINEST // divisor
            least = int(sizes.min()) / denominator
            if not least:
                raise ZeroDivisionError
            return Factor(sizes, denominator, value.detach() < 0, least)
        if not isinstance(value, Fraction):
            number = float(value)
            numerator = round(abs(number) * _FINEST)
            divisor = gcd(numerator, _FINEST)
            size, negative = Fraction(numerator // divisor, _FINEST // divisor), number < 0
        else:
            size, negative = abs(value).limit_denominator(_FINEST), value < 0
        if not size:
            raise ZeroDivisionError
        return Factor(size.numerator, size.denominator, negative, float(size))

    @property
    def value(self) -> float | Tensor:
        """The factor as it is applied."""
        size = self.numerator / self.denominator
        if isinstance(self.is_negative, Tensor):
            return torch.where(self.is_negative, -size, size)
        return -size if self.is_negative else size

    @property
    def is_unit(self) -> bool:
        """Whether the factor is 1 or -1."""
        return isinstance(self.numerator, int) and self.numerator == self.denominator

    def signed(self, x: Tensor) -> Tensor:
        """Tensor x with the sign of the factor."""
        if isinstance(self.is_negative, Tensor):
            return torch.where(self.is_negative, -x, x)
        return -x if self.is_negative else x


class BitStore:
    """What products have rounded away, the last one on top."""

    def __init__(self, like: Tensor) -> None:
        self.rest = torch.zeros_like(like)
        self.words: list[Tensor] = []
        self.filled = [0.0]
        """The bits in use before each product and now; below zero where a word was put aside since."""

    def packed(self) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], "BitStore"]]:
        """What the store holds, and what makes such a store of it again."""
        filled = list(self.filled)

        def unpacked(tensors: Sequence[Tensor]) -> BitStore:
            store = BitStore.__new__(BitStore)
            store.rest, *store.words = tensors
            store.filled = list(filled)
            return store

        return [self.rest, *self.words], unpacked

    def scaled(self, x: Tensor, factor: Factor) -> Tensor:
        """Integers x times a factor, nearly; `unscaled` gives x back."""
        if factor.is_unit:
            return factor.signed(x)
        n, d = factor.numerator, factor.denominator
        bits = self.filled[-1]
        if bits + log2(d) > _BITS:
            self.words.append(self.rest)
            self.filled.append(-1.0)
            self.rest, bits = torch.zeros_like(self.rest), 0.0
        high = _floor(x, d)
        full = _plus(_plus(x.clone(), high, -d), self.rest, d)
        self.rest = _floor(full, n)
        x = _plus(_plus(full, self.rest, -n), high, n)
        self.filled.append(log2(2.0**bits / factor.smallest + 1))
        return factor.signed(x)

    def unscaled(self, x: Tensor, factor: Factor) -> Tensor:
        """The integers of which `scaled` made x; the products are undone in reverse."""
        x = factor.signed(x)
        if factor.is_unit:
            return x
        n, d = factor.numerator, factor.denominator
        high = _floor(x, n)
        full = _plus(_plus(x.clone(), high, -n), self.rest, n)
        self.rest = _floor(full, d)
        x = _plus(_plus(full, self.rest, -d), high, d)
        self.filled.pop()
        if self.filled[-1] < 0:
            self.filled.pop()
            self.rest = self.words.pop()
        return x


def _floor(x: Tensor, divisor: int | Tensor) -> Tensor:
    if isinstance(divisor, int) and divisor & (divisor - 1) == 0:
        return x.bitwise_right_shift(divisor.bit_length() - 1)
    return torch.div(x, divisor, rounding_mode="floor")


def _plus(x: Tensor, y: Tensor, factor: int | Tensor) -> Tensor:
    """x + factor y, in the memory of x."""
    return x.add_(y, alpha=factor) if isinstance(factor, int) else x.addcmul_(y, factor)
