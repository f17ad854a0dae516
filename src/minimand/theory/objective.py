"""The objective that a layer x -> act(W x) minimises (Li et al. 2018, section 3, lemma and table 1)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._support.errors import MinimandError, unknown_name

_SLOPES_OF_SILU = -0.0998393202, 1.0998393202  # rounded outwards

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ActivationWithPotential:
    """An activation, an antiderivative `potential` of it, and bounds low <= act' <= high."""

    act: Function
    potential: Function
    low: float
    high: float


def activation(name: str, slope: float | None = None) -> ActivationWithPotential:
    """An activation with its potential, by name; `slope` is the negative one of leaky_relu or the scale of elu."""
    from scipy.special import expit, spence

    def softplus(u: np.ndarray) -> np.ndarray:
        return np.logaddexp(0, u)

    def of_softplus(u: np.ndarray) -> np.ndarray:
        """The potential -Li2(-e^u) of softplus, for positive u by inverting the dilogarithm: nothing overflows."""
        tail = -spence(1 + np.exp(-np.abs(u)))
        return np.where(u > 0, np.pi**2 / 6 + np.square(u) / 2 - tail, tail)

    def of_silu(u: np.ndarray) -> np.ndarray:
        """The potential u^2 / 2 + u softplus(-u) - Li2(-e^-u) of SiLU, for negative u with the squares cancelled."""
        negative = np.pi**2 / 6 + u * softplus(u) - of_softplus(np.minimum(u, 0))
        return np.where(u > 0, np.square(u) / 2 + u * softplus(-u) + of_softplus(-np.abs(u)), negative)

    a = {"leaky_relu": 0.01, "elu": 1.0}.get(name, 0.0) if slope is None else slope
    # The dilogarithm Li2(u) is spence(1 - u).
    known = {
        "sigmoid": ActivationWithPotential(expit, softplus, 0, 0.25),
        "tanh": ActivationWithPotential(np.tanh, lambda u: u + softplus(-2 * u), 0, 1),
        "softplus": ActivationWithPotential(softplus, of_softplus, 0, 1),
        # The printed table has log(u - 1) for negative u, a slip for log(1 - u).
        "softsign": ActivationWithPotential(lambda u: u / (1 + abs(u)), lambda u: abs(u) - np.log1p(abs(u)), 0, 1),
        "relu": ActivationWithPotential(lambda u: np.maximum(u, 0), lambda u: np.maximum(u, 0) ** 2 / 2, 0, 1),
        "leaky_relu": ActivationWithPotential(
            lambda u: np.where(u > 0, u, a * u), lambda u: np.where(u > 0, 1, a) * u**2 / 2, min(a, 1), max(a, 1)
        ),
        "elu": ActivationWithPotential(
            lambda u: np.where(u > 0, u, a * np.expm1(np.minimum(u, 0))),
            lambda u: np.where(u > 0, u**2 / 2, a * (np.expm1(np.minimum(u, 0)) - u)),
            min(a, 0),
            max(a, 1),
        ),
        "silu": ActivationWithPotential(lambda u: u * expit(u), of_silu, *_SLOPES_OF_SILU),
    }
    known["swish"] = known["silu"]
    if name not in known:
        raise unknown_name("activation", name, known)
    return known[name]


@dataclass(frozen=True)
class LayerObjective:
    """F(x) = f(U x) with U = W^(1/2) and f(z) = |z|^2 / 2 - sum_i psi(U_i^T z), psi' = act.

    One gradient step of length 1 on f from z = U x arrives at U act(W x): the layer is gradient descent.
    """

    weight: np.ndarray
    """The weight W (d, d), symmetric positive definite."""
    activation: ActivationWithPotential

    @property
    def root(self) -> np.ndarray:
        """The matrix U (d, d), the symmetric square root of W."""
        values, vectors = np.linalg.eigh(self.weight)
        return (vectors * np.sqrt(values)) @ vectors.T

    def value(self, x: np.ndarray) -> np.ndarray:
        """The values F(x), (...), at points (..., d)."""
        z = x @ self.root
        return (z**2).sum(-1) / 2 - self.activation.potential(x @ self.weight).sum(-1)

    def gradient(self, z: np.ndarray) -> np.ndarray:
        """The gradient grad f(z) = z - U act(U z) at points (..., d), of their shape."""
        return z - self.activation.act(z @ self.root) @ self.root

    def layer(self, x: np.ndarray) -> np.ndarray:
        """The layer's output act(W x) for inputs (..., d), of their shape."""
        return self.activation.act(x @ self.weight)

    @property
    def curvature(self) -> tuple[float, float]:
        """Bounds (mu, L) of the Hessian I - U act' U.

        L is 1 for a nondecreasing activation, so the unit step descends; mu is positive where high |W| < 1,
        and then gradient descent contracts.
        """
        largest = float(np.linalg.eigvalsh(self.weight)[-1])
        return 1 - self.activation.high * largest, 1 - min(self.activation.low, 0) * largest


def objective(weight: np.ndarray, name: str, slope: float | None = None) -> LayerObjective:
    """The objective that the layer x -> act(W x) takes a gradient step on.

    Args:
        weight: W (d, d), symmetric positive definite, as the lemma needs it.
        name: sigmoid, tanh, softplus, softsign, relu, leaky_relu, elu or silu (also called swish).
        slope: the negative slope of leaky_relu (0.01) or the scale of elu (1).
    """
    weight = np.asarray(weight, dtype=float)
    if weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
        raise MinimandError(f"weight has shape {weight.shape}; expected a square matrix.")
    if not np.allclose(weight, weight.T) or np.linalg.eigvalsh(weight)[0] <= 0:
        raise MinimandError("weight is not symmetric positive definite; W @ W.T + I is.")
    return LayerObjective(weight, activation(name, slope))
