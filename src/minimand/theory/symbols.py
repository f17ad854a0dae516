"""Exact scalars and linear combinations: what an algorithm computes with when it is read as mathematics."""

import math
import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational, Real
from typing import Any

TOLERANCE = 1e-9
"""How closely numbers that are not exact have to agree."""

# The smallest denominator that tells 1/7 from a number that merely looks like it, and how finely an
# irrational value is approximated: below the spacing of floats.
_SIMPLE, _FINE = 10_000, 10**9

# How many terms of a combination are printed.
_SHOWN = 4

_Monomial = tuple[tuple[Hashable, int], ...]


class NonlinearStepError(ValueError):
    """A step did to a state or an answer what is not linear. Names the operation and the line."""


class UnknownCoefficientError(ValueError):
    """A step needs the value of a coefficient that is still unknown (a branch on it, a quotient by it)."""


@dataclass(frozen=True, eq=False)
class Number:
    """A scalar: a polynomial with rational coefficients in unknowns (learnable coefficients), mostly a constant.

    A float becomes the rational its decimal literal names (0.9 is 9/10, 1/3 is 1/3). An irrational value
    becomes a rational nearer than a float can tell, and the result is marked not `exact`.
    """

    terms: Mapping[_Monomial, Fraction]
    exact: bool = True

    @staticmethod
    def of(value: Any) -> "Number":
        """The number that an int, a fraction or a float stands for."""
        if isinstance(value, Number):
            return value
        fraction, exact = _rational(value)
        return Number({(): fraction} if fraction else {}, exact)

    @staticmethod
    def unknown(name: Hashable) -> "Number":
        """A number of which nothing is known but its name."""
        return Number({((name, 1),): Fraction(1)})

    @property
    def is_constant(self) -> bool:
        """Whether no unknown occurs."""
        return all(monomial == () for monomial in self.terms)

    @property
    def value(self) -> Fraction:
        """The value of a constant."""
        if not self.is_constant:
            raise UnknownCoefficientError(f"the value of {self} is needed, but it is learnable")
        return self.terms.get((), Fraction(0))

    def same(self, other: "Number | float") -> bool:
        """Whether both are equal: exactly, or within 1e-9 where one is not exact."""
        other = Number.of(other)
        difference = self - other
        if difference.exact:
            return not difference.terms
        size = 1 + max((abs(c) for c in self.terms.values()), default=0)
        return all(abs(c) <= TOLERANCE * size for c in difference.terms.values())

    def __add__(self, other: Any) -> Any:
        if not _is_scalar(other):
            return NotImplemented
        other = Number.of(other)
        terms = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            total = terms.get(monomial, 0) + coefficient
            if total:
                terms[monomial] = Fraction(total)
            else:
                terms.pop(monomial, None)
        return Number(terms, self.exact and other.exact)

    def __mul__(self, other: Any) -> Any:
        if not _is_scalar(other):
            return NotImplemented
        other = Number.of(other)
        terms: dict[_Monomial, Fraction] = {}
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                monomial = _times(left, right)
                terms[monomial] = terms.get(monomial, Fraction(0)) + a * b
        return Number({m: c for m, c in terms.items() if c}, self.exact and other.exact)

    def __truediv__(self, other: Any) -> Any:
        if not _is_scalar(other):
            return NotImplemented
        other = Number.of(other)
        return self * Number({(): 1 / other.value}, other.exact)

    def __rtruediv__(self, other: Any) -> Any:
        return Number.of(other) / self

    def __pow__(self, exponent: Any) -> "Number":
        if isinstance(exponent, int) and exponent >= 0:
            power = Number.of(1)
            for _ in range(exponent):
                power = power * self
            return power
        result = Number.of(float(self) ** float(exponent))
        return Number(result.terms, result.exact and self.exact)

    def __neg__(self) -> "Number":
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + (-other) if _is_scalar(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __abs__(self) -> "Number":
        return -self if self.value < 0 else self

    def __eq__(self, other: object) -> bool:
        return _is_scalar(other) and self.terms == Number.of(other).terms

    def __hash__(self) -> int:
        return hash(self.value) if self.is_constant else hash(frozenset(self.terms.items()))

    def __lt__(self, other: Any) -> bool:
        return self.value < Number.of(other).value

    def __le__(self, other: Any) -> bool:
        return self.value <= Number.of(other).value

    def __gt__(self, other: Any) -> bool:
        return self.value > Number.of(other).value

    def __ge__(self, other: Any) -> bool:
        return self.value >= Number.of(other).value

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        if self.is_constant:
            return str(self.value) if self.exact and self.value.denominator <= _SIMPLE else f"{float(self):.6g}"
        return " + ".join(
            "*".join([str(c)] * (c != 1) + [f"{name}^{power}" if power > 1 else f"{name}" for name, power in m])
            or str(c)
            for m, c in self.terms.items()
        )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Number | Real)


def _rational(value: Any) -> tuple[Fraction, bool]:
    if isinstance(value, Rational):
        return Fraction(value), True
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"a step computed the coefficient {value}; expected a finite number")
    literal = Fraction(repr(value))
    digits = repr(value).partition("e")[0].replace(".", "").strip("-0")
    if len(digits) <= 12:
        return literal, True
    simple = literal.limit_denominator(_SIMPLE)
    if float(simple) == value:
        return simple, True
    return literal.limit_denominator(_FINE) if abs(value) > 1e-3 else literal, False


def _times(left: _Monomial, right: _Monomial) -> _Monomial:
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted(powers.items(), key=repr))


class Combination:
    """A linear combination of atoms: the input, the answers so far, or the entries of a state.

    It supports what a linear step needs: sums, and products with numbers. Anything else raises
    `NonlinearStepError` with the operation and the line of the step that asked for it.
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Hashable, Number]) -> None:
        self.terms = {atom: c for atom, c in terms.items() if c}

    @staticmethod
    def atom(atom: Hashable) -> "Combination":
        """The atom itself."""
        return Combination({atom: Number.of(1)})

    def coefficient(self, atom: Hashable) -> Number:
        """The coefficient of an atom; 0 where it does not occur."""
        return self.terms.get(atom, Number.of(0))

    @property
    def exact(self) -> bool:
        """Whether all coefficients are."""
        return all(c.exact for c in self.terms.values())

    def same(self, other: "Combination") -> bool:
        """Whether all coefficients agree."""
        atoms = self.terms.keys() | other.terms.keys()
        return all(self.coefficient(a).same(other.coefficient(a)) for a in atoms)

    def substitute(self, replacement: Callable[[Hashable], "Combination | None"]) -> "Combination":
        """Every atom for which `replacement` gives a combination, replaced by it."""
        result = Combination({})
        for atom, c in self.terms.items():
            found = replacement(atom)
            result = result + c * (Combination.atom(atom) if found is None else found)
        return result

    def __add__(self, other: Any) -> "Combination":
        if not isinstance(other, Combination):
            if _is_scalar(other) and not Number.of(other):
                return self  # sum() begins with 0
            raise _nonlinear(f"adds {_kind(other)} to a state")
        terms = dict(self.terms)
        for atom, c in other.terms.items():
            terms[atom] = terms[atom] + c if atom in terms else c
        return Combination(terms)

    def __mul__(self, other: Any) -> "Combination":
        if isinstance(other, Combination):
            raise _nonlinear("multiplies a state or an answer by another")
        if not _is_scalar(other):
            raise _nonlinear(f"multiplies a state by {_kind(other)}")
        return Combination({atom: c * other for atom, c in self.terms.items()})

    def __truediv__(self, other: Any) -> "Combination":
        if isinstance(other, Combination):
            raise _nonlinear("divides a state or an answer by another")
        if not _is_scalar(other):
            raise _nonlinear(f"divides a state by {_kind(other)}")
        return Combination({atom: c / other for atom, c in self.terms.items()})

    def __rtruediv__(self, other: Any) -> "Combination":
        raise _nonlinear("divides by a state")

    def __neg__(self) -> "Combination":
        return self * -1

    def __sub__(self, other: Any) -> "Combination":
        return self + (-other)

    def __rsub__(self, other: Any) -> "Combination":
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __repr__(self) -> str:
        shown = [_term(c, atom) for atom, c in self.terms.items()]
        text = " ".join(shown[:_SHOWN] + ["..."] * (len(shown) > _SHOWN))
        return text.removeprefix("+ ") or "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _nonlinear(f"uses .{name} of a state")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # torch asks for this method before it rejects a foreign argument; no import of torch is needed.
        raise _nonlinear(f"calls torch.{getattr(function, '__name__', function)} on a state")

    def __array_ufunc__(self, ufunc: Any, *args: Any, **kwargs: Any) -> Any:
        raise _nonlinear(f"calls numpy.{ufunc.__name__} on a state")


def _forbid(method: str, does: str) -> None:
    def refuse(self: Combination, *args: Any) -> Any:
        raise _nonlinear(does)

    setattr(Combination, method, refuse)


for _method, _does in {
    "__bool__": "branches on the value of a state",
    "__eq__": "compares a state",
    "__ne__": "compares a state",
    "__lt__": "compares a state",
    "__le__": "compares a state",
    "__gt__": "compares a state",
    "__ge__": "compares a state",
    "__abs__": "takes the absolute value of a state",
    "__pow__": "raises a state to a power",
    "__rpow__": "uses a state as an exponent",
    "__matmul__": "multiplies a state by a matrix",
    "__rmatmul__": "multiplies a state by a matrix",
    "__mod__": "takes the remainder of a state",
    "__floordiv__": "rounds a state",
    "__round__": "rounds a state",
    "__float__": "turns a state into a number",
    "__int__": "turns a state into a number",
    "__len__": "asks for the length of a state",
    "__iter__": "iterates over a state",
    "__getitem__": "indexes a state",
    "__call__": "calls a state",
}.items():
    _forbid(_method, _does)


def _term(c: Number, atom: Hashable) -> str:
    text = str(c)
    sign, size = ("-", text[1:]) if text.startswith("-") else ("+", text)
    return f"{sign} {atom}" if size == "1" else f"{sign} {size} {atom}"


def _kind(value: Any) -> str:
    return f"the constant {value!r}" if _is_scalar(value) else f"a {type(value).__name__}"


def _nonlinear(does: str) -> NonlinearStepError:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    where = f"{frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}"
    return NonlinearStepError(
        f"the step is not linear: it {does} ({where}). A step may add states and answers and multiply them by "
        "coefficients; whatever is nonlinear belongs in the block."
    )
