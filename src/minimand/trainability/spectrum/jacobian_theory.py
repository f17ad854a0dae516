"""The squared singular values of the Jacobian from input to output in wide networks, by free probability."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..._support.checks import check_choice, check_number
from ..._support.errors import MinimandError
from ..mean_field.activation import activation

MatrixEnsemble = Literal["orthogonal", "gaussian"]


@dataclass(frozen=True)
class Factors:
    """A product of `depth` random factors W D, and with `maps` = depth + 1 one more W, as free probability sees it.

    With d = phi'^2, of probabilities `weights`, M(t) = E td / (1 - td) and m = M(t), the S-transforms multiply to
    S = S_W^maps ((1 + m) / m t)^depth, and a squared singular value is lambda = (1 + m) / (m S).
    """

    d: np.ndarray
    weights: np.ndarray
    depth: int
    maps: int
    sigma_w: float
    gaussian: bool

    @classmethod
    def of(
        cls, phi: Any, ensemble: MatrixEnsemble, depth: int, q: float, sigma_w: float | None, head: bool = False
    ) -> "Factors":
        """The product for an activation at inputs of variance q; sigma_w None is the critical scale."""
        check_choice("ensemble", ensemble, MatrixEnsemble)
        check_number("depth", depth, 1, math.inf, whole=True)
        check_number("q", q, 1e-20, math.inf, below=True)
        phi = activation(phi)
        at_q = phi.moments(float(q))
        if at_q.mu1 == 0:
            raise MinimandError(f"{phi.name} has slope 0 at inputs of variance {q:g}: its Jacobian is 0.")
        d, weights = phi.squared_slopes(float(q))
        scale = at_q.mu1**-0.5 if sigma_w is None else sigma_w
        return cls(d, weights, depth, depth + (1 if head else 0), scale, ensemble == "gaussian")

    def edge(self) -> float:
        """The largest squared singular value: the least lambda over real t from 0 to 1 / max d."""
        from scipy.optimize import minimize_scalar

        top = 1 / self.d.max()

        def log_lambda(s: float) -> float:
            return float(self.log_lambda(np.array([top / (1 + math.exp(-s))]))[0][0].real)

        minimum = minimize_scalar(log_lambda, bounds=(-12, 12), method="bounded", options={"xatol": 1e-8})
        return math.exp(min(float(minimum.fun), log_lambda(25.0)))  # pyright: ignore[reportAttributeAccessIssue]

    def log_lambda(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log lambda at t, its derivative in log t, and m."""
        t = t.astype(complex)
        inverse = 1 / (1 - t[:, None] * self.d)
        m, slope = t * (self.d * inverse @ self.weights), self.d * inverse**2 @ self.weights * t
        L, K, log_t, log_1 = self.depth, self.maps, np.log(t), np.log(1 + m)
        gaussian = 1 if self.gaussian else 0
        # log((1 + m) / m) is written so that its branch is that of t and m, which lie on the same side.
        value = (1 - L) * (log_1 - np.log(m)) - L * log_t + K * (2 * math.log(self.sigma_w) + gaussian * log_1)
        change = (1 - L) * (slope / (1 + m) - slope / m) - L + K * gaussian * slope / (1 + m)
        return value, change, m

    def density(self, at: np.ndarray) -> np.ndarray:
        """The density of the squared singular values at values above 0, without an atom at 0."""
        # On the negative axis t is real and lambda falls with it; from there it is followed to the positive axis.
        low, high = np.full(at.shape, -60.0), np.full(at.shape, 60.0)
        for _ in range(70):
            middle = (low + high) / 2
            far = np.real(self.log_lambda(-np.exp(middle))[0]) > np.log(at)
            low, high = np.where(far, middle, low), np.where(far, high, middle)
        # Not on the axis itself, where rounding would choose the branch of the logarithms.
        log_t = m = low - 1j * (np.pi - 1e-3)
        for turn in np.geomspace(np.pi - 1e-3, 1e-3, 80):
            for _ in range(4):
                value, change, m = self.log_lambda(np.exp(log_t))
                log_t = log_t - (value - np.log(at) - 1j * turn) / change
        return np.maximum(0.0, -((1 + m) / (at * np.exp(1e-3j))).imag / np.pi)


@dataclass(frozen=True)
class SpectrumTheory:
    """The mean, variance and end of the squared singular values of the Jacobian of a wide network, in theory."""

    references: ClassVar = ("pennington2018emergence", "tarnowski2019dynamical")
    mean: float
    var: float
    largest: float
    """The largest squared singular value, where the density ends."""


def theory(phi: Any, ensemble: MatrixEnsemble, depth: int, q: float, *, sigma_w: float | None = None) -> SpectrumTheory:
    """The squared singular values of J, a product of `depth` factors W diag(phi'(h)).

    Pennington et al. (2018): the mean is (sigma_w^2 mu1)^depth, the variance mean^2 depth (mu2 / mu1^2 - 1 - s1), with
    s1 = 0 for orthogonal and -1 for Gaussian weights. phi is an activation as in `mean_field`, q the variance of h in
    all layers; sigma_w = None is the critical scale of the weights, for which the mean is 1.
    """
    factors = Factors.of(phi, ensemble, depth, q, sigma_w)
    at_q = activation(phi).moments(float(q))
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
