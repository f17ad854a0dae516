"""Wide networks at initialization: how lengths, angles and gradients change from layer to layer, and where they stay.

A layer is h_next = W phi(h) + b with entries of W of variance sigma_w^2 / fan_in and of b of variance sigma_b^2;
q = E h^2. Wherever `phi` stands, it is the name of an activation, a module or its class, a function of torch, or
any function of a tensor that acts number by number. Poole et al. (2016), Schoenholz et al. (2017).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from ..._support.checks import check_number
from ..._support.errors import MinimandError, unknown_name
from . import expectations
from .activation import Activation, activation
from .expectations import Moments as Moments

Kind = Literal["line", "homogeneous", "half_stable", "unstable"]
Gain = Literal["second_moment", "variance", "critical"]
Policy = Literal["auto", "line", "half_stable"]

# Variances that stand for the limits 0 and infinity: h as small as float64 allows, and far beyond any bend.
_ZERO, _LARGE = 1e-20, 1e8
# Where fixed points and critical points are looked for: variances, so close that no pair of them hides.
_GRID = 1.25 ** np.arange(-62, 42)
_ONE, _ROUNDING = 1e-6, 1e-12


@dataclass(frozen=True)
class CriticalPoint:
    """Standard deviations of weights and biases for which gradients neither grow nor die, at the length q."""

    references: ClassVar = ("poole2016exponential", "schoenholz2017deep")
    sigma_w: float
    sigma_b: float
    q: float
    """The variance of h that stays; 0 stands for the limit."""
    chi_perp: float
    """The factor of squared gradients, and of small angles, per layer: 1."""
    chi_par: float
    """The factor of small changes of q per layer."""
    kind: Kind
    """line: lengths return to q. homogeneous: any length stays. half_stable: longer ones return, shorter ones leave
    slowly. unstable: lengths leave q."""


@dataclass(frozen=True)
class DepthScales:
    """How many layers signal, angle and gradient survive: each shrinks by e in xi layers.

    An infinite scale means no exponential decay; a negative one, growth.
    """

    references: ClassVar = ("poole2016exponential", "schoenholz2017deep")
    q: float
    """The variance of h that the layers lead to from 1: inf where they diverge."""
    c: float
    """The correlation of two inputs that the layers lead to."""
    chi1: float
    xi_q: float
    xi_c: float
    xi_grad: float


class Layer(NamedTuple):
    """What theory says of one layer: E h^2, the correlation of two inputs, the factor of squared gradients."""

    q: float
    c: float
    chi: float


def moments(phi: Any, q: float) -> Moments:
    """E phi^2, E phi, E phi'^2, E phi'^4 and d E phi^2 / dq at a Gaussian input of variance q.

    Raises:
        ValueError: q is not above 0, or phi is no function of single numbers.
    """
    _check_q(q)
    return expectations.moments(activation(phi), float(q))


def gain(phi: Any, kind: Gain = "second_moment") -> float:
    """The factor by which weights of variance 1 / fan_in are multiplied.

    Args:
        phi: the activation.
        kind: `second_moment` gives phi the second moment 1 at inputs of variance 1; `variance` the variance 1, as for
            normalizer-free networks; `critical` is sigma_w of the critical point.
    """
    if kind not in get_args(Gain):
        raise unknown_name("kind of gain", str(kind), get_args(Gain))
    if kind == "critical":
        return critical_point(phi).sigma_w
    at_one = moments(phi, 1.0)
    return (at_one.second - (at_one.mean**2 if kind == "variance" else 0.0)) ** -0.5


def critical_point(
    phi: Any,
    *,
    q: float | None = None,
    sigma_b: float | None = None,
    depth: int | None = None,
    policy: Policy = "auto",
) -> CriticalPoint:
    """The edge of chaos: sigma_w and sigma_b for which E h^2 = q stays and squared gradients keep their size.

    Args:
        phi: the activation.
        q: the variance of h to hold, if it matters; the result may be unstable there, and its kind says so.
        sigma_b: the standard deviation of the biases, if it is given instead.
        depth: the number of layers; the variance is then 1 / depth instead of 1, near isometry for tanh and its kin.
        policy: without q and sigma_b, `line` takes this variance even where it is unstable, `half_stable` the point
            where lengths begin to return, and `auto` the first that is not unstable.

    Raises:
        ValueError: there is no such point; the message says which there are.
    """
    phi = activation(phi)
    if policy not in get_args(Policy):
        raise unknown_name("policy", str(policy), get_args(Policy))
    if sum(given is not None for given in (q, sigma_b, depth)) > 1:
        raise MinimandError("q, sigma_b and depth each choose the point; give one of them.")
    if depth is not None:
        check_number("depth", depth, 1, math.inf, whole=True)
    if sigma_b is not None:
        check_number("sigma_b", sigma_b, 0, math.inf)
        return _with_bias(phi, float(sigma_b))
    if q is not None:
        _check_q(q)
    at = float(q) if q is not None else 1 / (depth or 1)
    line = _line(phi, at)
    if q is not None or policy == "line" or (policy == "auto" and line is not None and line.kind != "unstable"):
        if line is None:
            raise MinimandError(_none_at(phi, at))
        return line
    return _half_stable(phi, at)


def depth_scales(phi: Any, sigma_w: float, sigma_b: float) -> DepthScales:
    """The fixed point that a deep network reaches from q = 1, and over how many layers it does.

    Trainable depth is a few times xi_c, or xi_grad (Schoenholz et al., 2017).
    """
    phi = activation(phi)
    _check_sigmas(sigma_w, sigma_b)
    q = _fixed_q(phi, sigma_w, sigma_b)
    at = min(max(q, _ZERO), _LARGE)
    m = expectations.moments(phi, at)
    chi = sigma_w**2 * m.mu1
    c = _fixed_c(phi, sigma_w, sigma_b, at)
    slope = _angle_factor(phi, sigma_w, sigma_b, at, c)
    return DepthScales(q, c, chi, _scale(sigma_w**2 * m.slope), _scale(slope), _scale(chi))


def length_map(phi: Any, q: float, sigma_w: float, sigma_b: float) -> float:
    """E h^2 of the next layer: sigma_w^2 E phi^2 + sigma_b^2."""
    _check_q(q)
    _check_sigmas(sigma_w, sigma_b)
    return sigma_w**2 * expectations.moments(activation(phi), float(q)).second + sigma_b**2


def correlation_map(phi: Any, c: float, q: float, sigma_w: float, sigma_b: float) -> float:
    """The correlation, in the next layer, of two inputs of variance q with correlation c."""
    check_number("c", c, -1, 1)
    q_next = length_map(phi, q, sigma_w, sigma_b)
    if q_next == 0:
        return float(c)
    # From the gap, as the product would lose the digits of correlations near 1.
    return 1 - sigma_w**2 * (expectations.gap(activation(phi), float(q), float(c)) if c < 1 else 0.0) / q_next


def chi(phi: Any, q: float, sigma_w: float) -> float:
    """The factor of squared gradients per layer: sigma_w^2 E phi'^2."""
    return sigma_w**2 * moments(phi, q).mu1


def trajectory(
    phi: Any, sigma_w: float, sigma_b: float, depth: int, *, q: float = 1.0, c: float | None = None
) -> list[Layer]:
    """What theory says of each of `depth` layers; the first has the given q and c.

    Args:
        phi: the activation.
        sigma_w: the standard deviation of weights is sigma_w / sqrt(fan_in).
        sigma_b: that of biases.
        depth: the number of layers.
        q: E h^2 of the first.
        c: the correlation of two inputs there; None, the cheaper, leaves angles out (nan).

    The chi of a layer is the factor by which squared gradients change from the next layer to it.
    """
    phi = activation(phi)
    check_number("depth", depth, 1, math.inf, whole=True)
    _check_q(q)
    _check_sigmas(sigma_w, sigma_b)
    layers: list[Layer] = []
    angle = math.nan if c is None else float(c)
    for _ in range(depth):
        at = min(max(q, _ZERO), _LARGE)
        layers.append(Layer(q, angle, chi(phi, at, sigma_w)))
        if c is not None:
            angle = correlation_map(phi, angle, at, sigma_w, sigma_b)
        # Beyond the ends of the range phi is a multiple of h.
        q = length_map(phi, at, sigma_w, sigma_b) if at == q else sigma_b**2 + q / at * sigma_w**2 * _second(phi, at)
    return layers


def _second(phi: Activation, q: float) -> float:
    return expectations.moments(phi, q).second


def _bias(phi: Activation, q: float) -> float:
    """The share of q that biases add at the critical point of this q; negative where there is none."""
    m = expectations.moments(phi, q)
    return 1 - m.second / (m.mu1 * q) if m.mu1 > 0 else math.nan


def _line(phi: Activation, q: float) -> CriticalPoint | None:
    """The point of the critical line at q; None where the biases would need a negative variance."""
    m = expectations.moments(phi, q)
    if m.mu1 == 0:
        return None
    variance = q * _bias(phi, q)
    if variance < -1e-10 * q:
        return None
    chi_par = m.slope / m.mu1
    kind = "line" if chi_par < 1 - _ONE else "unstable" if chi_par > 1 + _ONE else "half_stable"
    if phi.homogeneous and q > _ZERO:
        kind, variance = "homogeneous", 0.0
    return CriticalPoint(m.mu1**-0.5, max(0.0, variance) ** 0.5, q, 1.0, chi_par, kind)


def _half_stable(phi: Activation, q: float) -> CriticalPoint:
    """The point of the line where its lengths cease to be unstable."""

    def excess(at: float) -> float:
        point = _line(phi, at)
        return math.nan if point is None else point.chi_par - 1

    for low, high in _crossings(excess):
        if excess(low) > _ONE:
            at = _root(excess, low, high)
            point = _line(phi, at)
            if point is not None:
                return point
    raise MinimandError(_none_at(phi, q))


def _with_bias(phi: Activation, sigma_b: float) -> CriticalPoint:
    """The critical point with this bias, the stable one if there are several."""

    def excess(q: float) -> float:
        return _bias(phi, q) - sigma_b**2 / q

    if sigma_b == 0 and phi.homogeneous:
        found = [_line(phi, 1.0)]
    else:
        found = [_line(phi, _root(excess, *ends)) for ends in _crossings(excess)]
        if sigma_b == 0:
            found = [_limit(phi), *found]
    points = [p for p in found if p is not None]
    if not points:
        raise MinimandError(f"{phi.name} has no critical point with sigma_b = {sigma_b:g}. {_available(phi)}")
    return min(points, key=lambda p: p.kind == "unstable")


def _limit(phi: Activation) -> CriticalPoint | None:
    """The critical point without bias as q goes to 0; there is one where phi(0) = 0."""
    m = expectations.moments(phi, _ZERO)
    if m.mu1 == 0 or abs(m.second / m.mu1 / _ZERO - 1) > _ONE:
        return None
    grows = _second(phi, 1e-4) / m.mu1 > 1e-4 * (1 + _ONE)
    return CriticalPoint(m.mu1**-0.5, 0.0, 0.0, 1.0, 1.0, "unstable" if grows else "line")


def _none_at(phi: Activation, q: float) -> str:
    if expectations.moments(phi, q).mu1 == 0:
        return f"{phi.name} has slope 0 at inputs of variance {q:g}: no weights can keep gradients."
    variance = q * _bias(phi, q)
    if variance >= 0:
        return f"{phi.name} has no half-stable point. {_available(phi)}"
    return f"{phi.name} has no critical point at q = {q:g}: sigma_b^2 would be {variance:.4g}. {_available(phi)}"


def _available(phi: Activation) -> str:
    """What works instead."""
    stable = [float(q) for q in _GRID if (p := _line(phi, float(q))) is not None and p.kind == "line"]
    begins = [_root(lambda q: _bias(phi, q), *ends) for ends in _crossings(lambda q: _bias(phi, q))]
    where = "There is no stable one. Use"
    if stable:
        low = max([q for q in begins if q <= stable[0]], default=None)
        where = f"There are stable ones{f' from q = {low:.5g} on' if low else ''}. Or use"
    offers = ["a normalization layer before it", "gelu, silu or mish"]
    centre = float(phi(np.zeros(1))[0][0])
    if centre != 0 and (p := _line(phi.minus(centre), 1.0)) is not None and p.kind == "line":
        offers.insert(0, f"{phi.name} - {centre:.4g}, which is 0 at 0")
    return f"{where} {', or '.join(offers)}."


def _fixed_q(phi: Activation, sigma_w: float, sigma_b: float) -> float:
    """Where the lengths go from q = 1: the nearest fixed point on the side to which they leave."""

    def growth(q: float) -> float:
        return (sigma_w**2 * _second(phi, q) + sigma_b**2) / q - 1

    first = growth(1.0)
    if abs(first) < _ROUNDING:
        return 1.0
    for power in range(82):
        low, high = (1.25**power, 1.25 ** (power + 1)) if first > 0 else (1.25 ** -(power + 1), 1.25**-power)
        if growth(high if first > 0 else low) * first <= 0:
            return _root(growth, low, high)
    return math.inf if first > 0 else 0.0


def _fixed_c(phi: Activation, sigma_w: float, sigma_b: float, q: float) -> float:
    """Where the correlation of two inputs goes: the map is convex from 0 to 1, so 1 or the only other fixed point."""

    def excess(c: float) -> float:
        return (1 - correlation_map(phi, c, q, sigma_w, sigma_b)) / (1 - c) - 1

    high = 1 - 1e-6
    if excess(high) <= _ONE:
        return 1.0
    return _root(excess, 0.0, high) if excess(0.0) < -1e-9 else 0.0


def _angle_factor(phi: Activation, sigma_w: float, sigma_b: float, q: float, c: float) -> float:
    """The slope of the correlation map at c; by a difference, which also holds for jumps, below 1."""
    if c == 1:
        q_next = length_map(phi, q, sigma_w, sigma_b)
        return sigma_w**2 * expectations.moments(phi, q).mu1 * q / q_next if q_next else 1.0
    step = min(1e-4, (1 - c) / 2)
    up, down = (correlation_map(phi, c + s, q, sigma_w, sigma_b) for s in (step, -step))
    return (up - down) / (2 * step)


def _crossings(f: Callable[[float], float]) -> list[tuple[float, float]]:
    """Neighbours of the grid between which f changes its sign, where it is more than rounding."""
    values = [(float(q), value) for q in _GRID if abs(value := f(float(q))) > _ROUNDING]
    return [(low, high) for (low, f_low), (high, f_high) in pairwise(values) if f_low * f_high < 0]


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(f, low, high, xtol=1e-14, rtol=1e-13))  # pyright: ignore[reportArgumentType]


def _scale(factor: float) -> float:
    if factor <= 0:
        return 0.0
    return math.inf if abs(factor - 1) < 1e-9 else -1 / math.log(factor)


def _check_q(q: Any) -> None:
    check_number("q", q, 0, math.inf, below=True)
    if q < _ZERO:
        raise MinimandError(f"q is {q!r}; expected a variance above 0.")


def _check_sigmas(sigma_w: Any, sigma_b: Any) -> None:
    check_number("sigma_w", sigma_w, 0, math.inf)
    check_number("sigma_b", sigma_b, 0, math.inf)
