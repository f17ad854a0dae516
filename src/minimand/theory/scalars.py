"""Exact scalars: the coefficients of an algorithm that is read as mathematics."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, total_ordering
from numbers import Integral, Rational, Real
from typing import Any

from .._support.errors import MinimandError

TOLERANCE = 1e-9
"""The difference up to which numbers that are not exact agree."""

_SIMPLE = 10_000  # the largest denominator that tells 1/7 from a number that merely looks like it

# Bits that a number keeps which is not exact: its digits beyond a float's mean nothing, and double with each product.
_KEPT_BITS = 128

_ZERO = Fraction(0)

_Monomial = tuple[tuple[Hashable, int], ...]


class UnknownCoefficientError(MinimandError):
    """A step needs the value of a coefficient that is still unknown (a branch on it, a quotient by it)."""


@total_ordering
@dataclass(frozen=True, eq=False)
class Number:
    """A scalar: a polynomial with rational coefficients in unknowns (learnable coefficients), mostly a constant.

    A float becomes the rational its decimal literal names (0.9 is 9/10, 1/3 is 1/3). An irrational value
    becomes a rational nearer than a float can tell, and the result is marked not `exact`.
    """

    terms: Mapping[_Monomial, Fraction]
    exact: bool = True

    # numpy's scalars leave the operation to this class.
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        if not self.exact:
            object.__setattr__(self, "terms", {m: _shortened(c) for m, c in self.terms.items()})

    @staticmethod
    def of(value: Any) -> "Number":
        """The number that an int, a fraction or a float stands for, Python's or numpy's."""
        return value if isinstance(value, Number) else _number(value)

    @staticmethod
    def unknown(name: Hashable) -> "Number":
        """A number of which nothing is known but its name."""
        return Number({((name, 1),): Fraction(1)})

    @property
    def is_constant(self) -> bool:
        """Whether no unknown occurs in the number."""
        return _is_constant(self.terms)

    @property
    def _is_one(self) -> bool:
        return self.exact and len(self.terms) == 1 and self.terms.get(()) == 1

    @property
    def value(self) -> Fraction:
        """The value of a constant as a fraction."""
        if not self.is_constant:
            raise UnknownCoefficientError(f"the value of {self} is needed, but it is learnable")
        return self.terms.get((), _ZERO)

    def same(self, other: "Number | float", unit: Any = 1) -> bool:
        """Whether both are equal: exactly, or where one is not exact within 1e-9 of their size and of a unit."""
        other = Number.of(other)
        if self.exact and other.exact:
            return self.terms == other.terms
        difference = self - other
        size = unit + max((abs(c) for c in self.terms.values()), default=0)
        return all(abs(c) <= TOLERANCE * size for c in difference.terms.values())

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, Number):
            if not is_scalar(other):
                return NotImplemented
            other = Number.of(other)
        exact = self.exact and other.exact
        if _is_constant(self.terms) and _is_constant(other.terms):
            total = self.terms.get((), _ZERO) + other.terms.get((), _ZERO)
            return Number({(): total} if total else {}, exact)
        terms = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            terms[monomial] = terms.get(monomial, Fraction(0)) + coefficient
        return Number({m: c for m, c in terms.items() if c}, exact)

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, Number):
            if not is_scalar(other):
                return NotImplemented
            other = Number.of(other)
        if other._is_one:  # most factors are, and products of fractions are slow
            return self
        if self._is_one:
            return other
        exact = self.exact and other.exact
        if _is_constant(self.terms) and _is_constant(other.terms):
            product = self.terms.get((), _ZERO) * other.terms.get((), _ZERO)
            return Number({(): product} if product else {}, exact)
        terms: dict[_Monomial, Fraction] = {}
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                monomial = _times(left, right)
                terms[monomial] = terms.get(monomial, Fraction(0)) + a * b
        return Number({m: c for m, c in terms.items() if c}, exact)

    def __truediv__(self, other: Any) -> Any:
        if not is_scalar(other):
            return NotImplemented
        other = Number.of(other)
        return self if other._is_one else self * Number({(): 1 / other.value}, other.exact)

    def __rtruediv__(self, other: Any) -> Any:
        return Number.of(other) / self

    def __pow__(self, exponent: Any) -> "Number":
        if isinstance(exponent, Integral):
            power = math.prod([self] * abs(int(exponent)), start=Number.of(1))
            return power if int(exponent) >= 0 else 1 / power
        result = Number.of(float(self) ** float(exponent))
        return Number(result.terms, result.exact and self.exact)

    def __rpow__(self, base: Any) -> "Number":
        return Number.of(float(base) ** float(self))

    def __mod__(self, other: Any) -> "Number":
        return Number.of(self.value % Number.of(other).value)

    def __floordiv__(self, other: Any) -> "Number":
        return Number.of(self.value // Number.of(other).value)

    def __round__(self, digits: int | None = None) -> "Number":
        return Number.of(round(self.value, digits))

    def __int__(self) -> int:
        return int(self.value)

    def __format__(self, specification: str) -> str:
        return format(float(self), specification) if specification else str(self)

    def __neg__(self) -> "Number":
        return Number({m: -c for m, c in self.terms.items()}, self.exact)

    def __sub__(self, other: Any) -> Any:
        return self + (-other) if is_scalar(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __abs__(self) -> "Number":
        return -self if self.value < 0 else self

    def __eq__(self, other: object) -> bool:
        return is_scalar(other) and self.terms == Number.of(other).terms

    def __hash__(self) -> int:
        return hash(self.value) if self.is_constant else hash(frozenset(self.terms.items()))

    def __lt__(self, other: Any) -> bool:
        return self.value < Number.of(other).value

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __float__(self) -> float:
        try:
            return float(self.value)
        except OverflowError:
            return math.copysign(math.inf, self.value)

    def __str__(self) -> str:
        if self.is_constant:
            return str(self.value) if self.exact and self.value.denominator <= _SIMPLE else f"{float(self):.6g}"
        return " + ".join(_product_text(c, monomial) for monomial, c in self.terms.items())


def _is_constant(terms: Mapping[_Monomial, Fraction]) -> bool:
    return not terms or (len(terms) == 1 and () in terms)


def _product_text(coefficient: Fraction, monomial: _Monomial) -> str:
    powers = [f"{name}^{power}" if power > 1 else f"{name}" for name, power in monomial]
    return "*".join(powers if powers and coefficient == 1 else [str(coefficient), *powers])


def is_scalar(value: Any) -> bool:
    """Whether a value is a number that a coefficient can be: exact, or a real one."""
    return isinstance(value, Number | Real)


def short_text(value: Fraction) -> str:
    """A fraction as text, one of a large denominator in four digits."""
    return str(value) if value.denominator < 1000 else f"{float(value):.4g}"


def sum_text(terms: Sequence[tuple[Fraction, str]]) -> str:
    """A sum of multiples of names as text; the multiples of an empty name are numbers."""
    text = ""
    for factor, name in terms:
        sign = "-" if factor < 0 else "+" if text else ""
        size = "" if abs(factor) == 1 and name else short_text(abs(factor))
        text += (f" {sign} " if text else sign) + " ".join(filter(None, (size, name)))
    return text


@lru_cache(maxsize=4096, typed=True)
def _number(value: Any) -> Number:
    fraction, exact = _rational(value)
    return Number({(): fraction} if fraction else {}, exact)


def _rational(value: Any) -> tuple[Fraction, bool]:
    if isinstance(value, Rational):
        return Fraction(int(value.numerator), int(value.denominator)), True  # numpy's integers overflow
    # A float of fewer bits, numpy's, has a literal of its own: that of float32(0.9) is 0.9.
    value = float(value if isinstance(value, float) else str(value))
    if not math.isfinite(value):
        raise MinimandError(f"a step computed the coefficient {value}; expected a finite number")
    literal = Fraction(repr(value))
    digits = repr(value).partition("e")[0].replace(".", "").strip("-0")
    if len(digits) <= 12:
        return literal, True
    simple = literal.limit_denominator(_SIMPLE)
    if float(simple) == value:
        return simple, True
    return literal, False


def _shortened(fraction: Fraction) -> Fraction:
    """The fraction, or one of fewer digits that differs by less than a float can tell."""
    bits = fraction.denominator.bit_length()
    if bits <= 2 * _KEPT_BITS:
        return fraction
    scale = 1 << max(_KEPT_BITS + bits - fraction.numerator.bit_length(), 0)
    return Fraction(fraction.numerator * scale // fraction.denominator, scale)


def _times(left: _Monomial, right: _Monomial) -> _Monomial:
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted(powers.items(), key=repr))
