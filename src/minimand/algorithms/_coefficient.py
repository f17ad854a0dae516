"""Coefficients: the named numbers of an algorithm, as a constant, a schedule of the step, learnable, or drawn.

A coefficient has at each step a scalar, or a table: nested tuples of scalars of the shape that the algorithm says.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Annotated, Any

from .._support.errors import MinimandError, WrongTypeError

# Given as a number, a table, a function of k, a Learnable or a Drawn; kept as a function of k. The annotation marks
# the fields of an algorithm that are coefficients, so it has to exist at run time, and Any lets both types check.
Coefficient = Annotated[Any, "coefficient"]

# A momentum, or BDIA's sign, beyond these lets the states grow like |momentum|^k whatever the gradient does.
_RANGES = {"momentum": (-1.0, 1.0), "sign": (-1.0, 1.0)}


Table = Any
"""A scalar, or a tuple of tables, all of one depth."""


def each_entry(function: Callable[[Any], Any], value: Table) -> Table:
    """A table with a function applied to each of its entries."""
    return tuple(each_entry(function, row) for row in value) if isinstance(value, tuple) else function(value)


def filled(shape: tuple[int, ...], entry: Callable[[tuple[int, ...]], Any], index: tuple[int, ...] = ()) -> Table:
    """The table of a shape whose entries a function gives from their indices."""
    if not shape:
        return entry(index)
    return tuple(filled(shape[1:], entry, (*index, i)) for i in range(shape[0]))


def as_table(name: str, value: Table, shape: tuple[int, ...]) -> Table:
    """A table of a shape: a scalar in each of its entries, or the table itself.

    A table that is shorter, as that of the last layer is for steps beyond it, has zeros before its first entries.

    Raises:
        MinimandError: a table of another shape, of the coefficient named.
    """
    if not isinstance(value, tuple):
        return filled(shape, lambda _: value)
    missing = shape[0] - len(value) if shape else 0
    table = (*filled((missing, *shape[1:]), lambda _: 0.0), *value) if missing > 0 else value
    if not _fits(table, shape):
        expected = f"a number, or a table of the shape {shape}" if shape else "a number"
        raise MinimandError(f"{name} is the table {value}; expected {expected}.")
    return table


def _fits(value: Table, shape: tuple[int, ...]) -> bool:
    if not shape or not isinstance(value, tuple):
        return not shape and not isinstance(value, tuple)
    return len(value) == shape[0] and all(_fits(row, shape[1:]) for row in value)


@dataclass(frozen=True)
class Constant:
    """A coefficient with one value, or one table, at every step."""

    value: Table

    def __call__(self, k: int) -> Any:
        return self.value

    def __repr__(self) -> str:
        # A literal, that reads back: a fraction is recovered from its float.
        return repr(each_entry(lambda v: v if isinstance(v, int | float) else float(v), self.value))


@dataclass(frozen=True)
class Schedule:
    """A coefficient that depends on the step: `function(k)`, k counted from 0 in each stage."""

    function: Callable[[int], Any]
    name: str

    def __call__(self, k: int) -> Any:
        try:
            result = self.function(k)
        except Exception as error:  # the user's own code
            raise MinimandError(f"{self.name}({k}) raised {type(error).__name__}: {error}") from error
        value = _numbers(result)
        if value is None:
            raise WrongTypeError(f"{self.name}({k}) is {result!r}; expected a number.")
        each_entry(lambda entry: check_range(f"{self.name}({k})", entry), value)
        return value

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


@dataclass(frozen=True)
class Read:
    """A coefficient as a reading needs it: `function(k)` is a symbol, a tensor or a number, and is not looked at."""

    function: Callable[[int], Any]

    def __call__(self, k: int) -> Any:
        return self.function(k)


def in_floats(value: Any) -> Any:
    """A field of an algorithm with floats in the place of fractions."""
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, tuple):
        return tuple(map(in_floats, value))
    if isinstance(value, Constant):
        return Constant(in_floats(value.value))
    return Read(lambda k: in_floats(value(k))) if isinstance(value, Schedule) else value


@dataclass(frozen=True)
class Learnable:
    """A coefficient that is trained: one parameter per layer, or per entry of its table, kept within [low, high].

    It starts at `initial`, which may be one of the bounds. With `channels` each is a vector over the channels: the
    second dimension of states (N, C, H, W), the last one of all others.
    """

    initial: float
    low: float
    high: float
    channels: int | None = None

    def __post_init__(self) -> None:
        for name in ("initial", "low", "high"):
            value = as_number(getattr(self, name))
            if value is None or not math.isfinite(value):
                raise WrongTypeError(f"Learnable.{name} is {getattr(self, name)!r}; expected a finite number.")
            object.__setattr__(self, name, value)
        if self.channels is not None and not (isinstance(self.channels, int) and self.channels > 0):
            raise MinimandError(f"Learnable.channels is {self.channels!r}; expected a positive integer or None.")
        if self.low > self.high:
            raise MinimandError(f"Learnable(low={self.low}, high={self.high}): expected low <= high; swap them.")
        if not self.low <= self.initial <= self.high:
            raise MinimandError(
                f"Learnable(initial={self.initial}, low={self.low}, high={self.high}): expected "
                f"low <= initial <= high; the nearest initial is {min(max(self.initial, self.low), self.high)}."
            )

    def __call__(self, k: int) -> Any:
        return self.initial

    def __repr__(self) -> str:
        channels = "" if self.channels is None else f", channels={self.channels}"
        return f"Learnable({self.initial}, low={self.low}, high={self.high}{channels})"


@dataclass(frozen=True, repr=False)
class Learned(Learnable):
    """A learnable coefficient with the values that a stage has now, one per layer; of channels their mean."""

    values: tuple[Table, ...] = ()

    def __call__(self, k: int) -> Any:
        return self.values[min(k, len(self.values) - 1)]


@dataclass(frozen=True)
class Drawn:
    """A coefficient that is one of two values with probability 1/2, drawn in training for each sample and layer.

    In evaluation it is `rest`, by default their mean.
    """

    low: float
    high: float
    rest: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "rest"):
            value = as_number(getattr(self, name))
            if name == "rest" and self.rest is None:
                value = (self.low + self.high) / 2
            if value is None or not math.isfinite(value):
                raise WrongTypeError(f"Drawn.{name} is {getattr(self, name)!r}; expected a finite number.")
            object.__setattr__(self, name, value)

    def __call__(self, k: int) -> Any:
        return self.rest

    def __repr__(self) -> str:
        return f"Drawn({self.low}, {self.high}, rest={self.rest})"


def as_number(value: Any) -> Any:
    """A real number as Python's own: of numpy its literal, of a tensor with one entry its item; None for others."""
    if not isinstance(value, Real) and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        scalar = value[()]
        value = scalar if isinstance(scalar, Real) else value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if isinstance(value, Rational) and abs(Fraction(value)) > sys.float_info.max:
        return math.inf  # no tensor holds a number this large
    if not hasattr(value, "item"):
        return value
    return int(value) if isinstance(value, Integral) else float(str(value))  # float32(0.9) is 0.9, not 0.8999999762


def check_range(name: str, value: Any) -> None:
    """Raise MinimandError unless the coefficient's value is finite and within the range of its name."""
    if not math.isfinite(value):
        raise MinimandError(f"{name} is {value}; expected a finite number.")
    field = name.rpartition(".")[2].partition("(")[0]
    low, high = _RANGES.get(field, (-math.inf, math.inf))
    if not low <= value <= high:
        raise MinimandError(
            f"{name} is {value}, outside [{low:g}, {high:g}]: the states would grow like {abs(value):g}^k. "
            f"The nearest value that works is {min(max(value, low), high):g}."
        )


def as_coefficient(name: str, value: Any) -> Callable[[int], Any]:
    """The coefficient that `value` stands for. `name` is how errors call it: 'HeavyBall.momentum'."""
    if isinstance(value, Learnable):
        check_range(name, value.low)
        check_range(name, value.high)
        return value
    if isinstance(value, Drawn):
        for end in (value.low, value.high, value.rest):
            check_range(name, end)
        return value
    if isinstance(value, Constant | Schedule | Read):
        return value
    number = _numbers(value)
    if number is not None:
        each_entry(lambda entry: check_range(name, entry), number)
        return Constant(number)
    if callable(value):
        return Schedule(value, name)
    raise WrongTypeError(
        f"{name} is {value!r}; expected a number, a function of the step k, mm.Learnable(...) or mm.Drawn(...)."
    )


def _numbers(value: Any) -> Table | None:
    """A number, or a table of numbers, as Python's own; None for anything else."""
    if not isinstance(value, tuple | list):
        return as_number(value)
    entries = tuple(map(_numbers, value))
    return None if not entries or any(entry is None for entry in entries) else entries
