"""Checks of values that a person chose."""

import math
from typing import Any, get_args

from .errors import MinimandError, WrongTypeError, unknown_name


def check_number(name: str, value: Any, low: float, high: float, whole: bool = False, below: bool = False) -> None:
    """Raise MinimandError unless a value is a number from `low` to `high`, or with `below` less than `high`."""
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if is_number and low <= value <= high and not (below and value == high):
        return
    bounds = f"at least {low:g}" if high == math.inf else f"{low:g} to {'below ' if below else ''}{high:g}"
    raise MinimandError(f"{name} is {value!r}; expected {'an integer, ' if whole else ''}{bounds}.")


def check_flag(name: str, value: Any) -> None:
    """Raise WrongTypeError unless a value is True or False."""
    if not isinstance(value, bool):
        raise WrongTypeError(f"{name} is {value!r}; expected True or False.")


def check_choice(what: str, value: Any, choices: Any) -> None:
    """Raise MinimandError, by `what` it should have named, unless a value is one of those of a `Literal`."""
    if value not in get_args(choices):
        raise unknown_name(what, str(value), get_args(choices))
