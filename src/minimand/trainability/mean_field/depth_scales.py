"""How deep a network can be: over how many layers signal, angle and gradient survive, and what its width does."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..._support.errors import MinimandError
from ...networks.kinds import layers
from .activation import ActivationFunction, activation
from .layer_maps import ROUNDING, check_sigmas, correlation_map, in_range, length_map, root

# What the kinds of layers call the number of their outputs.
_WIDTHS = ("out_features", "out_channels", "hidden_size", "embed_dim", "nf")


@dataclass(frozen=True)
class DepthScales:
    """The numbers xi of layers in which signal, angle, gradient shrink by e: inf for no decay, negative for growth."""

    references: ClassVar = ("poole2016exponential", "schoenholz2017deep")
    q: float
    """The variance of h that the layers lead to from 1: inf where they diverge."""
    c: float
    """The correlation of two inputs that the layers lead to."""
    chi1: float
    xi_q: float
    xi_c: float
    xi_grad: float


def depth_scales(phi: Any, sigma_w: float, sigma_b: float) -> DepthScales:
    """The fixed point that a deep network reaches from q = 1, and over how many layers it does.

    Trainable depth is a few times xi_c, or xi_grad (Schoenholz et al., 2017).
    """
    phi = activation(phi)
    check_sigmas(sigma_w, sigma_b)
    q = _fixed_length(phi, sigma_w, sigma_b)
    at = in_range(q)
    at_fixed_point = phi.moments(at)
    chi = sigma_w**2 * at_fixed_point.mu1
    c = _fixed_correlation(phi, sigma_w, sigma_b, at)
    slope = _correlation_slope(phi, sigma_w, sigma_b, at, c)
    # Correlations come to c, so they do not leave it: a slope above 1 is the rounding of one that is 1.
    xi_c = _scale(min(slope, 1.0))
    return DepthScales(q, c, chi, _scale(sigma_w**2 * at_fixed_point.slope), xi_c, _scale(chi))


def fluctuation_beta(model: nn.Module) -> float:
    """The sum of 1 / width over the hidden layers of a plain network, which decides how widely it scatters.

    With ReLU and weights of variance 2 / fan_in, E |h|^4 / (E |h|^2)^2 is the product of 1 + 5 / width, the typical
    |h|^2 is about exp(-5 beta / 2) of its mean, and squared entries of the Jacobian scatter exponentially in beta
    (Hanin, 2018). Above 1/5, widen the network, or make its layers equally wide. Channels count as width, which is an
    upper bound for convolutions; skips, which make the scatter smaller, are not seen.
    """
    modules = list(layers(model).values())
    if not modules:
        raise MinimandError(
            f"{type(model).__name__} has no linear layer and no convolution; their widths are what counts."
        )
    return beta_of(modules)


def beta_of(modules: Sequence[nn.Module]) -> float:
    """The sum of 1 / width over layers in their order, without the last, which is no hidden one."""
    return sum(1 / next(getattr(module, name) for name in _WIDTHS if hasattr(module, name)) for module in modules[:-1])


def _fixed_length(phi: ActivationFunction, sigma_w: float, sigma_b: float) -> float:
    """Where the lengths go from q = 1: the nearest fixed point on the side to which they leave."""

    def growth(q: float) -> float:
        return (sigma_w**2 * phi.moments(q).second + sigma_b**2) / q - 1

    first = growth(1.0)
    if abs(first) < ROUNDING:
        return 1.0
    for power in range(82):
        near, far = (1.25**power, 1.25 ** (power + 1)) if first > 0 else (1.25**-power, 1.25 ** -(power + 1))
        if growth(far) * first <= 0:
            return root(growth, min(near, far), max(near, far))
    return math.inf if first > 0 else 0.0


def _fixed_correlation(phi: ActivationFunction, sigma_w: float, sigma_b: float, q: float) -> float:
    """Where the correlation of two inputs goes: the map is convex from 0 to 1, so 1 or the only other fixed point."""

    def excess(c: float) -> float:
        return (1 - correlation_map(phi, c, q, sigma_w, sigma_b)) / (1 - c) - 1

    high = 1 - 1e-6
    if excess(high) <= 1e-6:
        return 1.0
    return root(excess, 0.0, high) if excess(0.0) < -1e-9 else 0.0


def _correlation_slope(phi: ActivationFunction, sigma_w: float, sigma_b: float, q: float, c: float) -> float:
    """The slope of the correlation map at c; by a difference, which also holds for jumps, below 1."""
    if c == 1:
        q_next = length_map(phi, q, sigma_w, sigma_b)
        return sigma_w**2 * phi.moments(q).mu1 * q / q_next if q_next else 1.0
    step = min(1e-4, (1 - c) / 2)
    up, down = (correlation_map(phi, c + s, q, sigma_w, sigma_b) for s in (step, -step))
    return (up - down) / (2 * step)


def _scale(factor: float) -> float:
    if factor <= 0:
        return 0.0
    return math.inf if abs(factor - 1) < 1e-9 else -1 / math.log(factor)
