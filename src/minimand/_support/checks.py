"""Numbers that a person gave, checked."""

import math
from typing import Any

from .errors import MinimandError


def check_number(name: str, value: Any, low: float, high: float, whole: bool = False, below: bool = False) -> None:
    """Raise ValueError unless a number is from low to high, or below it."""
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if number and low <= value <= high and not (below and value == high):
        return
    bounds = f"at least {low:g}" if high == math.inf else f"{low:g} to {'below ' * below}{high:g}"
    raise MinimandError(f"{name} is {value!r}; expected {'an integer, ' * whole}{bounds}.")
