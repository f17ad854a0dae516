"""How lengths, angles and gradients change from one wide layer to the next at initialization.

A layer is h_next = W phi(h) + b with entries of W of variance sigma_w^2 / fan_in and of b of variance sigma_b^2;
q = E h^2. Wherever `phi` stands, it is the name of an activation, a module or its class, a function of torch, or
any function of a tensor that acts number by number. Poole et al. (2016), Schoenholz et al. (2017).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from .activation import Moments, activation

# What stands for the limit 0, h as small as float64 allows, and for infinity, far beyond any bend.
SMALLEST_VARIANCE, _LARGEST_VARIANCE = 1e-20, 1e8
# Below it the value of a function counts as 0.
ROUNDING = 1e-12


class MeanFieldLayer(NamedTuple):
    """What theory says of one layer: E h^2, the correlation of two inputs, the factor of squared gradients."""

    q: float
    c: float
    chi: float


def moments(phi: Any, q: float) -> Moments:
    """E phi^2, E phi, E phi'^2, E phi'^4 and d E phi^2 / dq at a Gaussian input of variance q."""
    check_variance(q)
    return activation(phi).moments(float(q))


def length_map(phi: Any, q: float, sigma_w: float, sigma_b: float) -> float:
    """E h^2 of the next layer: sigma_w^2 E phi^2 + sigma_b^2."""
    check_sigmas(sigma_w, sigma_b)
    return sigma_w**2 * moments(phi, q).second + sigma_b**2


def correlation_map(phi: Any, c: float, q: float, sigma_w: float, sigma_b: float) -> float:
    """The correlation, in the next layer, of two inputs of variance q with correlation c."""
    check_number("c", c, -1, 1)
    q_next = length_map(phi, q, sigma_w, sigma_b)
    if q_next == 0:
        return float(c)
    # From the gap, as the product would lose the digits of correlations near 1.
    return 1 - sigma_w**2 * (activation(phi).gap(float(q), float(c)) if c < 1 else 0.0) / q_next


def chi(phi: Any, q: float, sigma_w: float) -> float:
    """The factor of squared gradients per layer: sigma_w^2 E phi'^2."""
    return sigma_w**2 * moments(phi, q).mu1


def trajectory(
    phi: Any, sigma_w: float, sigma_b: float, depth: int, *, q: float = 1.0, c: float | None = None
) -> list[MeanFieldLayer]:
    """What theory says of each of `depth` layers; the first has the given q = E h^2 and correlation c of two inputs.

    c = None, the cheaper, leaves angles out (nan). The chi of a layer is the factor by which squared gradients change
    from the next layer to it.
    """
    phi = activation(phi)
    check_number("depth", depth, 1, math.inf, whole=True)
    check_variance(q)
    check_sigmas(sigma_w, sigma_b)
    layers: list[MeanFieldLayer] = []
    angle = math.nan if c is None else float(c)
    for _ in range(depth):
        at = in_range(q)
        layers.append(MeanFieldLayer(q, angle, chi(phi, at, sigma_w)))
        if c is not None:
            angle = correlation_map(phi, angle, at, sigma_w, sigma_b)
        # Beyond the ends of the range phi is a multiple of h.
        q = q / at * sigma_w**2 * phi.moments(at).second + sigma_b**2
    return layers


def in_range(q: float) -> float:
    """A variance, or the nearest one at which moments can be taken in float64."""
    return min(max(q, SMALLEST_VARIANCE), _LARGEST_VARIANCE)


def check_variance(q: Any) -> None:
    check_number("q", q, 0, math.inf, below=True)
    if q < SMALLEST_VARIANCE:
        raise MinimandError(f"q is {q!r}; expected a variance above 0.")


def check_sigmas(sigma_w: Any, sigma_b: Any) -> None:
    check_number("sigma_w", sigma_w, 0, math.inf)
    check_number("sigma_b", sigma_b, 0, math.inf)


def root(f: Callable[[float], float], low: float, high: float) -> float:
    """The zero of f between two numbers at which its signs differ."""
    from scipy.optimize import brentq

    return float(brentq(f, low, high, xtol=1e-14, rtol=1e-13))  # pyright: ignore[reportArgumentType]
