"""Readings: numbers that were measured, or the reason why there is none."""

from collections.abc import Iterable
from enum import Enum
from typing import Final


class Missing(Enum):
    """The reason why there is no number. A number that is NaN is none of these: it was measured, and is NaN."""

    NOT_MEASURED = "not measured"
    """The number was not measured, or there is nothing to measure."""
    NO_GRADIENT = "no gradient"
    """No path leads back from the output to this: a gradient of exactly 0 is a number, and another thing."""

    def __repr__(self) -> str:
        return self.name


NOT_MEASURED: Final = Missing.NOT_MEASURED
NO_GRADIENT: Final = Missing.NO_GRADIENT

Reading = float | Missing
"""A number, NaN and infinity among them, or the reason why there is none."""


def number(reading: Reading, otherwise: float) -> float:
    """The number of a reading, or another where there is none."""
    return otherwise if isinstance(reading, Missing) else reading


def numbers(readings: Iterable[Reading]) -> list[float]:
    """The values of those readings that are numbers."""
    return [reading for reading in readings if not isinstance(reading, Missing)]


def is_nan(reading: Reading) -> bool:
    """Whether a number was measured and is NaN."""
    return not isinstance(reading, Missing) and reading != reading


def ratio(a: Reading, b: Reading) -> Reading:
    """The ratio of two readings; what is missing of either is missing of it, and of a divisor 0 there is none."""
    for reading in (a, b):
        if isinstance(reading, Missing):
            return reading
    return number(a, 0.0) / number(b, 0.0) if b else NOT_MEASURED
