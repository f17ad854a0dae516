"""Learnable coefficients as parameters: a vector for each, with one entry per layer."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm, Learnable, Learned


def initial_vectors(learnable: Mapping[str, Learnable], layers: int) -> dict[str, nn.Parameter]:
    """A parameter for each learnable coefficient, an entry per layer at its initial value."""
    return {name: nn.Parameter(torch.full((layers,), float(c.initial))) for name, c in learnable.items()}


def clamped(learnable: Mapping[str, Learnable], vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vectors of learnable coefficients, brought within their bounds."""
    within = {}
    for name, c in learnable.items():
        vector = vectors[name]
        # The gradient passes the clamp, or a coefficient at its bound could never leave it.
        within[name] = vector + (vector.clamp(float(c.low), float(c.high)) - vector).detach()
    return within


def learned(algorithm: Algorithm, vectors: Mapping[str, Tensor]) -> Algorithm:
    """The algorithm with the current values of its coefficients as numbers, to certify."""
    learnable = algorithm.learnable()
    values = {name: vector.detach().tolist() for name, vector in clamped(learnable, vectors).items()}
    return algorithm.rebind(**{n: Learned(c.initial, c.low, c.high, tuple(values[n])) for n, c in learnable.items()})


@torch.no_grad()
def project(learnable: Mapping[str, Learnable], vectors: Mapping[str, Tensor]) -> None:
    """Bring the vectors of learnable coefficients back within their bounds, in place."""
    for name, c in learnable.items():
        vectors[name].clamp_(float(c.low), float(c.high))
