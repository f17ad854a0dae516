"""Zeros of functions of a variance: a coarse search on a grid, then bisection."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

GRID = [float(q) for q in 1.25 ** np.arange(-62, 42)]
"""Variances at which fixed points and critical points are looked for, so close that no pair of points hides."""

ROUNDING = 1e-12
"""The size below which the value of a function counts as 0."""


def crossings(f: Callable[[float], float]) -> list[tuple[float, float]]:
    """Neighbours of the grid between which f changes its sign, where its values are more than rounding."""
    values = [(q, value) for q in GRID if abs(value := f(q)) > ROUNDING]
    return [(low, high) for (low, f_low), (high, f_high) in pairwise(values) if f_low * f_high < 0]


def root(f: Callable[[float], float], low: float, high: float) -> float:
    """The zero of f between two numbers at which its signs differ."""
    from scipy.optimize import brentq

    return float(brentq(f, low, high, xtol=1e-14, rtol=1e-13))  # pyright: ignore[reportArgumentType]
