"""Coefficients: the named scalars of an algorithm, as a constant, a schedule of the step, or learnable."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any

from .._support.errors import MinimandError, WrongTypeError

# Given as a number, a function of k or a Learnable; kept as a function of k. The annotation marks the fields
# of an algorithm that are coefficients, so it has to exist at run time, and Any lets both types check.
Coefficient = Annotated[Any, "coefficient"]

# A momentum beyond these lets the states grow like |momentum|^k whatever the gradient does.
_RANGES = {"momentum": (-1.0, 1.0)}


@dataclass(frozen=True)
class Constant:
    """A coefficient with one value at every step."""

    value: Real

    def __call__(self, k: int) -> Any:
        return self.value

    def __repr__(self) -> str:
        # A literal, that reads back: a fraction is recovered from its float.
        return repr(self.value if isinstance(self.value, int | float) else float(self.value))


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
        value = as_number(result)
        if value is None:
            raise WrongTypeError(f"{self.name}({k}) is {result!r}; expected a number.")
        check_range(f"{self.name}({k})", value)
        return value

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


@dataclass(frozen=True)
class Read:
    """A coefficient as a reading needs it: `function(k)` is a symbol, a tensor or a number, and is not looked at."""

    function: Callable[[int], Any]

    def __call__(self, k: int) -> Any:
        return self.function(k)


@dataclass(frozen=True)
class Learnable:
    """A coefficient that is trained: one parameter per layer, kept within [low, high].

    It starts at `initial`, which may be one of the bounds.
    """

    initial: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("initial", "low", "high"):
            value = as_number(getattr(self, name))
            if value is None or not math.isfinite(value):
                raise WrongTypeError(f"Learnable.{name} is {getattr(self, name)!r}; expected a finite number.")
            object.__setattr__(self, name, value)
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
        return f"Learnable({self.initial}, low={self.low}, high={self.high})"


@dataclass(frozen=True, repr=False)
class Learned(Learnable):
    """A learnable coefficient with the values that a stage has now, one per layer."""

    values: tuple[float, ...]

    def __call__(self, k: int) -> Any:
        return self.values[min(k, len(self.values) - 1)]


def as_number(value: Any) -> Any:
    """A real number as Python's own: of numpy, or a tensor with one entry, its item; None for anything else."""
    if not isinstance(value, Real) and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return value.item() if hasattr(value, "item") else value  # pyright: ignore[reportAttributeAccessIssue]


def check_range(name: str, value: Any) -> None:
    """Raise ValueError unless the coefficient's value is finite and within the range of its name."""
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
    if isinstance(value, Constant | Schedule | Read):
        return value
    number = as_number(value)
    if number is not None:
        check_range(name, number)
        return Constant(number)
    if callable(value):
        return Schedule(value, name)
    raise WrongTypeError(f"{name} is {value!r}; expected a number, a function of the step k, or mm.Learnable(...).")
