"""What mean-field theory says of the layers of a plain network, from the first on."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from . import meanfield
from .activation import Activation, activation
from .statistics import LayerStat, Measured
from .structure import Structure


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
