"""What theory says of the layers of a plain network, from the first on, and of the whole."""

import math
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..mean_field import meanfield, spectrum
from ..mean_field.activation import Activation, activation
from ..mean_field.free_probability import Ensemble
from ..measure.statistics import LayerStat, Measured
from ..measure.structure import Structure

# How far lengths may differ between layers, as a factor, and the spectra of weights from those of their kind.
_SAME_LENGTH, _SAME_SPREAD = 1.5, 0.15


@dataclass(frozen=True)
class Product:
    """A Jacobian as a product of random weights and the slopes of one activation, with or without a linear end."""

    phi: Activation
    ensemble: Ensemble
    depth: int
    q: float
    sigma_w: float
    head: bool

    def density(self, at: np.ndarray) -> np.ndarray:
        """Of the singular values, at values above 0."""
        squared = spectrum.density(
            self.phi, self.ensemble, self.depth, self.q, at**2, sigma_w=self.sigma_w, head=self.head
        )
        return 2 * at * squared


def as_product(found: Measured, structure: Structure) -> Product | None:
    """The network as a product that free probability knows, None if it is none.

    It has to be plain, of linear layers that are all square and all orthogonal or all random, with one activation
    between them and about one length of the signal.
    """
    modules = [call.module for call in found.trace.calls]
    functions = [call.activation for call in found.trace.calls]
    if not structure.plain or structure.normalized or len(modules) < 2:
        return None
    if len({module.weight.shape if isinstance(module, nn.Linear) else None for module in modules}) > 1:
        return None
    weights = [module.weight.detach().double() for module in modules if isinstance(module, nn.Linear)]
    if not weights or weights[0].shape[0] != weights[0].shape[1]:
        return None
    head = functions[-1] is None
    known: dict[Any, Activation] = {}
    try:
        phis = {_known(function, known) for function in functions[: len(functions) - head]}
    except (ValueError, TypeError):  # no function of single numbers
        return None
    ensembles: set[Ensemble | None] = {_ensemble(weight) for weight in weights}
    lengths = [stat.second_moment for stat in found.layers[: len(modules) - head]]
    if len(phis) > 1 or len(ensembles) > 1 or not 0 < min(lengths) <= max(lengths) < math.inf:
        return None
    phi, ensemble = phis.pop(), ensembles.pop()
    if ensemble is None:
        return None
    if not phi.homogeneous and max(lengths) > _SAME_LENGTH * min(lengths):
        return None
    sigma_w = math.exp(fmean(math.log(float(weight.square().sum(1).mean())) / 2 for weight in weights))
    return Product(phi, ensemble, len(lengths), fmean(lengths), sigma_w, head)


def _ensemble(weight: Tensor) -> Ensemble | None:
    """By the mean fourth power of its singular values over the square of their mean square: 1, or 2 if random."""
    squares = weight @ weight.T
    spread = float(squares.square().sum() * len(squares) / squares.trace().square())
    if abs(spread - 1) < _SAME_SPREAD:
        return "orthogonal"
    return "gaussian" if abs(spread - 2) < _SAME_SPREAD else None


def with_theory(found: Measured, structure: Structure) -> tuple[LayerStat, ...]:
    """The layers with the second moment, cosine and chi that the sizes of their weights let expect.

    The first layer's output is taken as measured. Theory applies as far as each layer is linear or convolutional and
    reads, through a known activation and nothing else, what one other layer gave.
    """
    stats, calls = list(found.layers), found.trace.calls
    if not structure.plain or structure.normalized:
        return found.layers
    q, c = stats[0].second_moment, stats[0].cosine
    known: dict[Any, Activation] = {}
    for i in range(1, len(stats)):
        variances, before = _variances(calls[i].module), calls[i].after
        if variances is None or list(before) != [i - 1] or not 0 < q < math.inf:
            break
        try:
            phi = _known(before[i - 1], known)
            weights, biases = (math.sqrt(v) for v in variances)
            chi = meanfield.chi(phi, q, weights)
            c = meanfield.correlation_map(phi, c, q, weights, biases) if abs(c) <= 1 else c
            q = meanfield.length_map(phi, q, weights, biases)
        except (ValueError, TypeError):  # no function of single numbers, or one without moments
            break
        stats[i] = replace(stats[i], expected_second_moment=q, expected_cosine=c, expected_chi=chi)
    return tuple(stats)


def _variances(module: nn.Module) -> tuple[float, float] | None:
    """sigma_w^2 and sigma_b^2, as the weights and biases are."""
    if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return None
    weight, bias = module.weight.detach().double(), module.bias
    own = 0.0 if bias is None else float(bias.detach().double().square().mean())
    return float(weight.square().mean()) * weight[0].numel(), own


def _known(given: Any, known: dict[Any, Activation]) -> Activation:
    """The activation, read once for all layers where it takes the same values."""
    if given is None:
        return activation("linear")
    values: Tensor = given.function(torch.linspace(-3, 3, 13, dtype=torch.float64))
    key = (given.name, *values.tolist())
    if key not in known:
        known[key] = activation(given.function)
    return known[key]
