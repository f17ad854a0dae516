"""Expectations over Gaussian inputs, by Gauss-Legendre rules on panels split where the activation bends."""

from typing import NamedTuple

import numpy as np

from .activation import NODES, WEIGHTS, Activation

# The density beyond is under 1e-22.
_FAR = 10.0
_PANELS = np.arange(-_FAR, _FAR + 1, 2)


class Moments(NamedTuple):
    """Of phi at a Gaussian h of variance q: E phi^2, E phi, E phi'^2, E phi'^4, and d E phi^2 / dq."""

    second: float
    mean: float
    mu1: float
    mu2: float
    slope: float


class Pair(NamedTuple):
    """Of phi at two Gaussians of variance q and correlation c.

    E phi(u) phi(v), E phi'(u) phi'(v), and E (phi(u) - phi(v))^2 / 2, exact also where the two are nearly one.
    """

    product: float
    slopes: float
    gap: float


def moments(phi: Activation, q: float) -> Moments:
    """The moments at a variance q above 0."""
    return phi.remembered(_moments, q)


def pair(phi: Activation, q: float, c: float) -> Pair:
    """The moments of two inputs of variance q above 0 with correlation c."""
    return phi.remembered(_pair, q, c)


def _moments(phi: Activation, q: float) -> Moments:
    z, weights = _rule(_within(np.concatenate([_PANELS, _bends(phi, q) / np.sqrt(q)])))
    value, slope = phi(np.sqrt(q) * z)
    weights = weights * _density(z)
    square = value**2
    # Stein's lemma, which also holds for jumps.
    steepness = weights @ ((z**2 - 1) * square) / (2 * q)
    found = (weights @ square, weights @ value, weights @ slope**2, weights @ slope**4, steepness)
    return Moments(*map(float, found))


def _pair(phi: Activation, q: float, c: float) -> Pair:
    # u, v = sqrt(q) (along x +- across y) with x and y independent; the integrand is even in y.
    along, across = (np.sqrt(max(q * (1 + s * c) / 2, 1e-300)) for s in (1, -1))
    bends = _bends(phi, q)
    y, outer = _rule(_within(np.concatenate([[0.0], _PANELS, bends / across]), low=0.0))
    crossed = np.concatenate([bends[None] - across * y[:, None], bends[None] + across * y[:, None]], 1) / along
    x, inner = _rule(np.sort(np.concatenate([np.tile(_PANELS, (len(y), 1)), np.clip(crossed, -_FAR, _FAR)], 1)))
    (u, u_slope), (v, v_slope) = (phi(along * x + sign * across * y[:, None]) for sign in (1, -1))
    weights = 2 * outer[:, None] * _density(y)[:, None] * inner * _density(x)
    gap = float((weights * (u - v) ** 2).sum() / 2)
    return Pair(moments(phi, q).second - gap, float((weights * u_slope * v_slope).sum()), gap)


def _bends(phi: Activation, q: float) -> np.ndarray:
    """The edges of the panels of phi that h of variance q meets."""
    reach = 2.0 ** max(3, np.ceil(np.log2(_FAR * np.sqrt(q))))
    return phi.remembered(Activation.edges, float(reach))


def _within(edges: np.ndarray, low: float = -_FAR) -> np.ndarray:
    return np.unique(np.clip(edges, low, _FAR))


def _rule(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of all panels between the edges, which are in the last dimension."""
    half, middle = (edges[..., 1:] - edges[..., :-1]) / 2, (edges[..., 1:] + edges[..., :-1]) / 2
    nodes = middle[..., None] + half[..., None] * NODES
    weights = half[..., None] * WEIGHTS
    return nodes.reshape(*edges.shape[:-1], -1), weights.reshape(*edges.shape[:-1], -1)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
