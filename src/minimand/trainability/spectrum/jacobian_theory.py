"""The squared singular values of the Jacobian from input to output, as theory gives them for wide networks."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from ..mean_field import expectations
from ..mean_field.activation import activation
from .free_probability import Factors, MatrixEnsemble


@dataclass(frozen=True)
class SpectrumTheory:
    """The distribution of the squared singular values of the Jacobian of a wide network, in theory."""

    references: ClassVar = ("pennington2018emergence", "tarnowski2019dynamical")
    mean: float
    """The mean of the squared singular values."""
    var: float
    """The variance of the squared singular values."""
    largest: float
    """The largest squared singular value, where the density ends."""


def theory(phi: Any, ensemble: MatrixEnsemble, depth: int, q: float, *, sigma_w: float | None = None) -> SpectrumTheory:
    """The squared singular values of J, a product of `depth` factors W diag(phi'(h)).

    Pennington et al. (2018): the mean is (sigma_w^2 mu1)^depth, the variance mean^2 depth (mu2 / mu1^2 - 1 - s1), with
    s1 = 0 for orthogonal and -1 for Gaussian weights.

    Args:
        phi: an activation as in `mean_field`.
        ensemble: `orthogonal` or `gaussian` weights.
        depth: the number of layers.
        q: the variance of h in all of them.
        sigma_w: the scale of the weights; None is the critical one, for which the mean is 1.
    """
    factors = Factors.of(phi, ensemble, depth, q, sigma_w)
    at_q = expectations.moments(activation(phi), float(q))
    mean = (factors.sigma_w**2 * at_q.mu1) ** depth
    var = mean**2 * depth * (at_q.mu2 / at_q.mu1**2 - 1 + (1 if ensemble == "gaussian" else 0))
    return SpectrumTheory(mean, max(var, 0.0), factors.edge())


def density(
    phi: Any,
    ensemble: MatrixEnsemble,
    depth: int,
    q: float,
    at: np.ndarray,
    *,
    sigma_w: float | None = None,
    head: bool = False,
) -> np.ndarray:
    """The density of the squared singular values of a Jacobian at the values `at`, all above 0.

    The arguments are those of `theory`. With `head` one more W, a linear layer at the end, is part of the product.
    Jumps and atoms are smoothed over about a thousandth of where they are; the atom that dead units put at 0 is left
    out.
    """
    at = np.asarray(at, dtype=float)
    if not (at > 0).all():
        raise MinimandError("the values at which to take the density are to be above 0.")
    return Factors.of(phi, ensemble, depth, q, sigma_w, head).density(at)


def residual(c: float) -> SpectrumTheory:
    """The squared singular values of a deep residual network whose branches add up to variance c.

    With branches of scale a in each of L layers, c = L a^2 sigma_w^2 mu1. Neither phi nor L matters beyond it
    (Tarnowski et al., 2019): S = exp(-c (1 + 2 z)), so the mean is e^c and the variance 2 c e^(2 c).
    """
    check_number("c", c, 0, math.inf)
    if c == 0:
        return SpectrumTheory(1.0, 0.0, 1.0)
    z = (math.sqrt(1 + 2 / c) - 1) / 2  # where (1 + z) / (z S(z)) is least
    return SpectrumTheory(math.exp(c), 2 * c * math.exp(2 * c), (1 + z) / z * math.exp(c * (1 + 2 * z)))
