"""Theory for the layers of a plain network, from the first on, and for its Jacobian."""

import math
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..mean_field import layer_maps
from ..mean_field.activation import ActivationFunction, activation
from ..measure.flow import AppliedActivation
from ..measure.layer_stat import LayerStat, Measured
from ..measure.reading import Missing, number
from ..spectrum.jacobian_theory import MatrixEnsemble, density
from .structure import Structure

# How far lengths may differ between layers, as a factor, and the spectra of weights from those of their kind.
_SAME_LENGTH, _SAME_RATIO = 1.5, 0.15


@dataclass(frozen=True)
class Product:
    """A Jacobian as a product of random weights and the slopes of one activation, with or without a linear end."""

    phi: ActivationFunction
    ensemble: MatrixEnsemble
    depth: int
    q: float
    """The variance of what the activation reads."""
    sigma_w: float
    head: bool

    def density(self, at: np.ndarray) -> np.ndarray:
        """The density of the singular values, at values above 0."""
        squared = density(self.phi, self.ensemble, self.depth, self.q, at**2, sigma_w=self.sigma_w, head=self.head)
        return 2 * at * squared


def as_product(measured: Measured, structure: Structure) -> Product | None:
    """The network as a product that free probability knows: plain, square, of one activation, ensemble and length."""
    modules = [call.module for call in measured.trace.calls]
    functions = [call.activation for call in measured.trace.calls]
    weights = [module.weight.detach().double() for module in modules if isinstance(module, nn.Linear)]
    if not structure.plain or structure.normalized or not 2 <= len(modules) == len(weights):
        return None
    if {weight.shape for weight in weights} != {(len(weights[0]), len(weights[0]))}:
        return None
    head = functions[-1] is None
    depth = len(modules) - 1 if head else len(modules)
    by_values: dict[Any, ActivationFunction] = {}
    try:
        phis = {_known(function, by_values) for function in functions[:depth]}
    except (ValueError, TypeError):  # no function of single numbers
        return None
    ensembles: set[MatrixEnsemble | None] = {_ensemble(weight) for weight in weights}
    lengths = [number(stat.second_moment, 0.0) for stat in measured.layers[:depth]]
    phi, ensemble = phis.pop(), ensembles.pop()
    if phis or ensembles or ensemble is None or not 0 < min(lengths) <= max(lengths) < math.inf:
        return None
    if not phi.homogeneous and max(lengths) > _SAME_LENGTH * min(lengths):
        return None
    sigma_w = math.exp(fmean(math.log(float(weight.square().sum(1).mean())) / 2 for weight in weights))
    return Product(phi, ensemble, depth, fmean(lengths), sigma_w, head)


def _ensemble(weight: Tensor) -> MatrixEnsemble | None:
    # The mean fourth power of singular values over their mean square squared: 1 for orthogonal matrices, 2 for random.
    squares = weight @ weight.T
    ratio = float(squares.square().sum() * len(squares) / squares.trace().square())
    if abs(ratio - 1) < _SAME_RATIO:
        return "orthogonal"
    return "gaussian" if abs(ratio - 2) < _SAME_RATIO else None


def with_theory(measured: Measured, structure: Structure) -> tuple[LayerStat, ...]:
    """The layers with the second moment, cosine and chi that theory expects, as far as it applies after the first."""
    stats, calls = list(measured.layers), measured.trace.calls
    if not structure.plain or structure.normalized:
        return measured.layers
    q, c = number(stats[0].second_moment, 0.0), stats[0].cosine
    by_values: dict[Any, ActivationFunction] = {}
    for i in range(1, len(stats)):
        variances, before = _variances(calls[i].module), calls[i].after
        if variances is None or list(before) != [i - 1] or not 0 < q < math.inf:
            break
        try:
            phi = _known(before[i - 1], by_values)
            weights, biases = (math.sqrt(v) for v in variances)
            chi = layer_maps.chi(phi, q, weights)
            if not isinstance(c, Missing) and abs(c) <= 1:
                c = layer_maps.correlation_map(phi, c, q, weights, biases)
            q = layer_maps.length_map(phi, q, weights, biases)
        except (ValueError, TypeError):  # no function of single numbers, or one without moments
            break
        stats[i] = replace(stats[i], expected_second_moment=q, expected_cosine=c, expected_chi=chi)
    return tuple(stats)


def _variances(module: nn.Module) -> tuple[float, float] | None:
    """The variances sigma_w^2 and sigma_b^2 of a layer, as its weights and biases are; None for other layers."""
    if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return None
    weight, bias = module.weight.detach().double(), module.bias
    bias_variance = 0.0 if bias is None else float(bias.detach().double().square().mean())
    return float(weight.square().mean()) * weight[0].numel(), bias_variance


def _known(applied: AppliedActivation | None, by_values: dict[Any, ActivationFunction]) -> ActivationFunction:
    """The activation as a function of one number, read once for all layers where it takes the same values."""
    if applied is None:
        return activation("linear")
    values = applied.function(torch.linspace(-3, 3, 13, dtype=torch.float64))
    key = (applied.name, *values.tolist())
    if key not in by_values:
        by_values[key] = activation(applied.function)
    return by_values[key]
