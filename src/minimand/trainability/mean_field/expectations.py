"""Expectations over Gaussian inputs, by Gauss-Legendre rules on panels split where the activation bends."""

from typing import NamedTuple

import numpy as np

from .activation import NODES, WEIGHTS, ActivationFunction

# The density beyond is under 1e-22.
_FAR = 10.0
_PANELS = np.arange(-_FAR, _FAR + 1, 2)


class Moments(NamedTuple):
    """Expectations at a Gaussian h of variance q: E phi^2, E phi, E phi'^2, E phi'^4, and d E phi^2 / dq."""

    second: float
    mean: float
    mu1: float
    mu2: float
    slope: float


def moments(phi: ActivationFunction, q: float) -> Moments:
    """The moments of an activation at a variance q above 0."""
    return phi.remembered(_moments, q)


def gap(phi: ActivationFunction, q: float, c: float) -> float:
    """E (phi(u) - phi(v))^2 / 2 for two Gaussians of variance q above 0 and correlation c, exact also near c = 1."""
    return phi.remembered(_gap, q, c)


def squared_slopes(phi: ActivationFunction, q: float) -> tuple[np.ndarray, np.ndarray]:
    """The distribution of phi'(h)^2 for h of variance q: values and their probabilities."""
    near = 2.0 ** np.arange(-12, 1)
    z, weights = _rule(_within(np.concatenate([_PANELS, near, -near, _bends(phi, q) / np.sqrt(q)])))
    weights = weights * _density(z)
    d = phi(np.sqrt(q) * z)[1] ** 2
    # Values that are nearly equal are one, their mean.
    where = np.unique(np.round((d - d.min()) / max(float(np.ptp(d)), 1e-300) * 256), return_inverse=True)[1]
    mass = np.bincount(where, weights)
    return np.bincount(where, weights * d) / mass, mass / mass.sum()


def _moments(phi: ActivationFunction, q: float) -> Moments:
    z, weights = _rule(_within(np.concatenate([_PANELS, _bends(phi, q) / np.sqrt(q)])))
    value, slope = phi(np.sqrt(q) * z)
    weights = weights * _density(z)
    square = value**2
    # Stein's lemma, which also holds for jumps.
    steepness = weights @ ((z**2 - 1) * square) / (2 * q)
    numbers = (weights @ square, weights @ value, weights @ slope**2, weights @ slope**4, steepness)
    return Moments(*map(float, numbers))


def _gap(phi: ActivationFunction, q: float, c: float) -> float:
    # u, v = sqrt(q) (along x +- across y) with x and y independent; the integrand is even in y.
    along, across = (np.sqrt(max(q * (1 + s * c) / 2, 1e-300)) for s in (1, -1))
    bends = _bends(phi, q)
    y, outer = _rule(_within(np.concatenate([[0.0], _PANELS, bends / across]), low=0.0))
    crossed = np.concatenate([bends[None] - across * y[:, None], bends[None] + across * y[:, None]], 1) / along
    x, inner = _rule(np.sort(np.concatenate([np.tile(_PANELS, (len(y), 1)), np.clip(crossed, -_FAR, _FAR)], 1)))
    u, v = (phi(along * x + sign * across * y[:, None])[0] for sign in (1, -1))
    return float(outer * _density(y) @ (inner * _density(x) * (u - v) ** 2).sum(1))


def _bends(phi: ActivationFunction, q: float) -> np.ndarray:
    """The edges of the panels of phi in which h of variance q lies."""
    reach = 2.0 ** max(3, np.ceil(np.log2(_FAR * np.sqrt(q))))
    return phi.remembered(ActivationFunction.edges, float(reach))


def _within(edges: np.ndarray, low: float = -_FAR) -> np.ndarray:
    """Edges in order, each once, those outside the range moved to its ends."""
    return np.unique(np.clip(edges, low, _FAR))


def _rule(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of all panels between the edges, which are in the last dimension."""
    half, middle = (edges[..., 1:] - edges[..., :-1]) / 2, (edges[..., 1:] + edges[..., :-1]) / 2
    nodes = middle[..., None] + half[..., None] * NODES
    weights = half[..., None] * WEIGHTS
    return nodes.reshape(*edges.shape[:-1], -1), weights.reshape(*edges.shape[:-1], -1)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
