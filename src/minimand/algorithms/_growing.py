"""The growing momentum of accelerated methods without strong convexity."""

import math
from numbers import Real

from .._support.errors import MinimandError, WrongTypeError

_SEQUENCE = [1.0]


def growing_t(k: int) -> float:
    """t(0) = 1, t(k) = (1 + sqrt(1 + 4 t(k-1)^2)) / 2   (Beck & Teboulle, 2009)."""
    while len(_SEQUENCE) <= k:
        _SEQUENCE.append((1 + math.sqrt(1 + 4 * _SEQUENCE[-1] ** 2)) / 2)
    return _SEQUENCE[k]


def growing_momentum(k: int) -> float:
    """b(k) = (t(k-1) - 1) / t(k), from b(0) = b(1) = 0 up to 1."""
    return (growing_t(k - 1) - 1) / growing_t(k) if k > 0 else 0.0


def check_cap(name: str, cap: float) -> None:
    """Raise MinimandError unless a cap on the momentum lies in [0, 1]."""
    if not isinstance(cap, Real) or math.isnan(cap):
        raise WrongTypeError(f"{name} is {cap!r}; expected a number in [0, 1].")
    if not 0 <= cap <= 1:
        raise MinimandError(f"{name} is {cap}, outside [0, 1]. The nearest value that works is {min(max(cap, 0), 1)}.")
