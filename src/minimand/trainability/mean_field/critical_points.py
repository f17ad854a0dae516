"""The edge of chaos, on which gradients neither grow nor die, and the gains that make up for an activation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from ..._support.checks import check_choice, check_number
from ..._support.errors import MinimandError
from .activation import ActivationFunction, activation
from .layer_maps import ROUNDING, SMALLEST_VARIANCE, check_variance, root

PointStability = Literal["line", "homogeneous", "half_stable", "unstable"]
PointPolicy = Literal["auto", "line", "half_stable"]
GainKind = Literal["second_moment", "variance", "critical"]

# A factor per layer that is this near to 1 counts as 1.
_MARGIN = 1e-6
# Variances at which points are looked for, so close that no pair of points hides.
_GRID = [float(q) for q in 1.25 ** np.arange(-62, 42)]


@dataclass(frozen=True)
class CriticalPoint:
    """Standard deviations of weights, over sqrt(fan_in), and biases for which gradients neither grow nor die."""

    references: ClassVar = ("poole2016exponential", "schoenholz2017deep")
    sigma_w: float
    sigma_b: float
    q: float
    """The variance of h that stays; 0 stands for the limit."""
    chi_perp: float
    """The factor of squared gradients, and of small angles, per layer: 1."""
    chi_par: float
    """The factor of small changes of q per layer."""
    kind: PointStability
    """line: lengths return to q. homogeneous: any length stays. half_stable: longer ones return, shorter ones leave
    slowly. unstable: lengths leave q."""


def critical_point(
    phi: Any,
    *,
    q: float | None = None,
    sigma_b: float | None = None,
    depth: int | None = None,
    policy: PointPolicy = "auto",
) -> CriticalPoint:
    """The edge of chaos: sigma_w and sigma_b for which E h^2 = q stays and squared gradients keep their size.

    Args:
        phi: the activation; where it has no such point, the error says which there are.
        q: the variance of h to hold, if it matters; the result may be unstable there, and its kind says so.
        sigma_b: the standard deviation of the biases, if it is given instead.
        depth: the number of layers; the variance is then 1 / depth instead of 1, near isometry for tanh and its kin.
        policy: without q and sigma_b, `line` takes this variance even where it is unstable, `half_stable` the point
            where lengths begin to return, and `auto` the first that is not unstable.
    """
    phi = activation(phi)
    check_choice("policy", policy, PointPolicy)
    if sum(choice is not None for choice in (q, sigma_b, depth)) > 1:
        raise MinimandError("q, sigma_b and depth each choose the point; give one of them.")
    if depth is not None:
        check_number("depth", depth, 1, math.inf, whole=True)
    if sigma_b is not None:
        check_number("sigma_b", sigma_b, 0, math.inf)
        return _with_bias(phi, float(sigma_b))
    if q is not None:
        check_variance(q)
    at = float(q) if q is not None else 1 / (depth or 1)
    line = _line(phi, at)
    if q is not None or policy == "line" or (policy == "auto" and line is not None and line.kind != "unstable"):
        if line is None:
            raise MinimandError(_none_at(phi, at))
        return line
    return _half_stable(phi, at)


def gain(phi: Any, kind: GainKind = "second_moment") -> float:
    """The factor by which weights of variance 1 / fan_in are multiplied to make up for an activation.

    The kind `second_moment` gives phi the second moment 1 at inputs of variance 1; `variance` the variance 1, as for
    normalizer-free networks; `critical` is sigma_w of the critical point.
    """
    check_choice("kind of gain", kind, GainKind)
    if kind == "critical":
        return critical_point(phi).sigma_w
    at_one = activation(phi).moments(1.0)
    return (at_one.second - (at_one.mean**2 if kind == "variance" else 0.0)) ** -0.5


def _bias(phi: ActivationFunction, q: float) -> float:
    """The share of q that biases add at the critical point of this q; negative where there is none."""
    m = phi.moments(q)
    return 1 - m.second / (m.mu1 * q) if m.mu1 > 0 else math.nan


def _line(phi: ActivationFunction, q: float) -> CriticalPoint | None:
    """The point of the critical line at q; None where the biases would need a negative variance."""
    m = phi.moments(q)
    if m.mu1 == 0:
        return None
    variance = q * _bias(phi, q)
    if variance < -1e-10 * q:
        return None
    chi_par = m.slope / m.mu1
    kind = "line" if chi_par < 1 - _MARGIN else "unstable" if chi_par > 1 + _MARGIN else "half_stable"
    if phi.homogeneous and q > SMALLEST_VARIANCE:
        kind, variance = "homogeneous", 0.0
    return CriticalPoint(m.mu1**-0.5, max(0.0, variance) ** 0.5, q, 1.0, chi_par, kind)


def _half_stable(phi: ActivationFunction, q: float) -> CriticalPoint:
    def excess(at: float) -> float:
        point = _line(phi, at)
        return math.nan if point is None else point.chi_par - 1

    for low, high in _crossings(excess):
        if excess(low) > _MARGIN:
            point = _line(phi, root(excess, low, high))
            if point is not None:
                return point
    raise MinimandError(_none_at(phi, q))


def _with_bias(phi: ActivationFunction, sigma_b: float) -> CriticalPoint:
    """The critical point with this bias, the stable one if there are several."""

    def excess(q: float) -> float:
        return _bias(phi, q) - sigma_b**2 / q

    if sigma_b == 0 and phi.homogeneous:
        candidates = [_line(phi, 1.0)]
    else:
        limit = [_limit(phi)] if sigma_b == 0 else []
        candidates = limit + [_line(phi, root(excess, *ends)) for ends in _crossings(excess)]
    points = [point for point in candidates if point is not None]
    if not points:
        raise MinimandError(f"{phi.name} has no critical point with sigma_b = {sigma_b:g}. {_available(phi)}")
    return min(points, key=lambda point: point.kind == "unstable")


def _limit(phi: ActivationFunction) -> CriticalPoint | None:
    """The critical point without bias as q goes to 0; there is one where phi(0) = 0."""
    m = phi.moments(SMALLEST_VARIANCE)
    if m.mu1 == 0 or abs(m.second / m.mu1 / SMALLEST_VARIANCE - 1) > _MARGIN:
        return None
    grows = phi.moments(1e-4).second / m.mu1 > 1e-4 * (1 + _MARGIN)
    return CriticalPoint(m.mu1**-0.5, 0.0, 0.0, 1.0, 1.0, "unstable" if grows else "line")


def _none_at(phi: ActivationFunction, q: float) -> str:
    if phi.moments(q).mu1 == 0:
        return f"{phi.name} has slope 0 at inputs of variance {q:g}: no weights can keep gradients."
    variance = q * _bias(phi, q)
    if variance >= 0:
        return f"{phi.name} has no half-stable point. {_available(phi)}"
    return f"{phi.name} has no critical point at q = {q:g}: sigma_b^2 would be {variance:.4g}. {_available(phi)}"


def _available(phi: ActivationFunction) -> str:
    stable = [q for q in _GRID if (point := _line(phi, q)) is not None and point.kind == "line"]
    begins = [root(lambda q: _bias(phi, q), *ends) for ends in _crossings(lambda q: _bias(phi, q))]
    where = "There is no stable one. Use"
    if stable:
        low = max([q for q in begins if q <= stable[0]], default=None)
        where = f"There are stable ones{f' from q = {low:.5g} on' if low else ''}. Or use"
    offers = ["a normalization layer before it", "gelu, silu or mish"]
    centre = float(phi(np.zeros(1))[0][0])
    if centre != 0 and (point := _line(phi.minus(centre), 1.0)) is not None and point.kind == "line":
        offers.insert(0, f"{phi.name} - {centre:.4g}, which is 0 at 0")
    return f"{where} {', or '.join(offers)}."


def _crossings(f: Callable[[float], float]) -> list[tuple[float, float]]:
    """Neighbours of the grid between which f changes its sign, where its values are more than rounding."""
    values = [(q, value) for q in _GRID if abs(value := f(q)) > ROUNDING]
    return [(low, high) for (low, f_low), (high, f_high) in pairwise(values) if f_low * f_high < 0]
