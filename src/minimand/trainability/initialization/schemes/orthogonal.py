"""Orthogonal weights, which keep every direction and not the mean alone."""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError
from ...._support.torch.internals import ConvNd
from ....networks.kinds import LINEAR_OR_CONVOLUTION
from ..scheme import Job, scheme
from ..weighted_layers import WeightBlock, WeightedLayer


@scheme("orthogonal", traced=False, references=("saxe2014exact",))
def orthogonal(job: Job, gain: float = 1.0) -> None:
    """Rows or columns orthonormal, whichever are fewer, times gain, for each group and gate (Saxe et al., 2014).

    A linear network then has all singular values gain^depth. A convolution is so as a matrix of patches, not as an
    operator; see `delta_orthogonal`.
    """
    check_number("gain", gain, 0, math.inf)
    for layer in job.layers:
        job.fill(layer, "orthogonal", partial(_orthogonal, job, gain), gain)


@scheme("delta_orthogonal", traced=False, references=("xiao2018dynamical",))
def delta_orthogonal(job: Job, gain: float = 1.0) -> None:
    """Convolutions with an orthogonal centre tap and nothing else, other layers orthogonal (Xiao et al., 2018).

    With stride 1 and padding (k - 1) / 2 the operator is gain times an isometry. Convolutions that it is not defined
    for are an error: exclude them, or use `critical`, which makes those Gaussian.
    """
    check_number("gain", gain, 0, math.inf)
    convolutions = {layer.name: layer.module for layer in job.layers if isinstance(layer.module, ConvNd)}
    refused = {name: why for name, module in convolutions.items() if (why := no_delta(module))}
    if refused:
        listed = "; ".join(f"{name} {why}" for name, why in refused.items())
        raise MinimandError(
            f"delta_orthogonal needs stride 1, odd kernels, one group and at least as many channels out as in. "
            f"{listed}. Leave them out by exclude={tuple(refused)!r}, or use 'critical', which makes them Gaussian."
        )
    for layer in job.layers:
        isometric(job, layer, gain, "", per_unit=False)


@scheme("looks_linear", references=("balduzzi2017shattered",))
def looks_linear(job: Job) -> None:
    """Mirrored weights [[V, -V], [-V, V]], V orthogonal: a ReLU network that starts linear (Balduzzi et al., 2017).

    phi(u) - phi(-u) is a multiple of u for every leaky ReLU, so that norms and angles are kept at any depth. For plain
    networks of linear layers and odd convolutions of stride 1, of even width.
    """
    has_activations = any(layer.reads is not None for layer in job.layers)
    for layer in job.layers:
        slopes = [_mirrored_slope(phi.function) for phi in (layer.reads, layer.follows) if phi is not None]
        if None in slopes or not has_activations:
            names = ", ".join(str(phi) for phi in (layer.reads, layer.follows) if phi) or "none"
            raise MinimandError(f"looks_linear is for relu and leaky_relu; {layer.name} has {names} around it.")
        why = _no_mirror(layer)
        if why:
            raise MinimandError(
                f"looks_linear cannot set {layer.name}, which {why}. Exclude it: exclude=({layer.name!r},)."
            )
    for layer in job.layers:
        slope = 1.0 if layer.reads is None else _mirrored_slope(layer.reads.function) or 1.0
        fill = partial(_mirrored, job, layer.follows is not None, layer.reads is not None, 1 / slope)
        job.fill(layer, "looks linear", fill, 1 / slope)


def _mirrored(job: Job, rows: bool, columns: bool, gain: float, weight: Tensor, block: WeightBlock) -> None:
    """Fill a weight with [[V, -V], [-V, V]]: mirrored along its rows, its columns, or both; V is orthogonal."""
    matrix = weight.new_empty(len(weight) // (2 if rows else 1), weight.shape[1] // (2 if columns else 1))
    nn.init.orthogonal_(matrix, gain, generator=job.generator)
    matrix = torch.cat([matrix, -matrix], dim=1) if columns else matrix
    set_centre(weight, torch.cat([matrix, -matrix], dim=0) if rows else matrix)


def _mirrored_slope(phi: Callable[[Tensor], Tensor]) -> float | None:
    """The number a of phi(u) - phi(-u) = a u; None if that is no multiple of u."""
    u = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    slopes = (phi(u.clone()) - phi(-u)) / u
    return float(slopes[0]) if torch.allclose(slopes, slopes[:1]) else None


def _no_mirror(layer: WeightedLayer) -> str | None:
    """Why the weights of a layer cannot be mirrored; None if they can."""
    module = layer.module
    if not isinstance(module, LINEAR_OR_CONVOLUTION):
        return f"is a {type(module).__name__}"
    if isinstance(module, ConvNd) and (why := no_delta(module, square=False)):
        return why
    outputs, inputs = cast(nn.Linear, module).weight.shape[:2]
    if layer.reads is not None and inputs % 2:
        return f"reads an odd number of units, {inputs}"
    return f"has an odd number of units, {outputs}" if layer.follows is not None and outputs % 2 else None


def isometric(job: Job, layer: WeightedLayer, sigma: float, rule: str, per_unit: bool = True) -> None:
    """Set weights to sigma times an isometry, or Gaussian ones of that size; `per_unit` keeps E h^2, not the norm."""
    if not isinstance(layer.module, ConvNd):
        job.fill(layer, f"{rule}orthogonal", partial(_orthogonal, job, sigma, per_unit=per_unit), sigma)
    elif no_delta(layer.module):
        gaussian(job, layer, sigma, rule)
    else:
        job.fill(layer, f"{rule}delta-orthogonal", partial(_delta, job, sigma, per_unit), sigma)


def gaussian(job: Job, layer: WeightedLayer, sigma: float, rule: str) -> None:
    """Set the weights of a layer to Gaussian ones of standard deviation sigma / sqrt(fan_in)."""
    rule = f"{rule}Gaussian"
    job.fill(layer, rule, lambda weight, block: job.normal(sigma / math.sqrt(block.fan_in))(weight, block), sigma)


def _orthogonal(job: Job, gain: float, weight: Tensor, block: WeightBlock, per_unit: bool = False) -> None:
    matrices = block.matrices(weight).clone()
    rows, columns = matrices.shape[1:]
    factor = math.sqrt(max(rows, columns) / block.fan_in) if per_unit else 1.0
    for matrix in matrices:
        nn.init.orthogonal_(matrix, gain * factor, generator=job.generator)
    block.assign(weight, matrices)


def _delta(job: Job, gain: float, per_unit: bool, weight: Tensor, block: WeightBlock) -> None:
    centre = torch.empty(weight.shape[:2], dtype=weight.dtype, device=weight.device)
    factor = math.sqrt(max(1.0, centre.shape[0] / centre.shape[1])) if per_unit else 1.0
    nn.init.orthogonal_(centre, gain * factor, generator=job.generator)
    set_centre(weight, centre)


def set_centre(weight: Tensor, matrix: Tensor) -> None:
    """Write a matrix, (out, in), to the centre tap of a kernel and 0 to all others."""
    weight.zero_()
    weight[(slice(None), slice(None), *(size // 2 for size in weight.shape[2:]))] = matrix


def no_delta(module: nn.Module, square: bool = True) -> str | None:
    """Why a convolution cannot be delta-orthogonal, or, unless `square`, have a centre tap alone; None if it can."""
    assert isinstance(module, ConvNd)
    if module.transposed:
        return "is transposed"
    if module.groups > 1:
        return f"has {module.groups} groups"
    if any(step > 1 for step in module.stride):
        return f"has stride {max(module.stride)}"
    if any(size % 2 == 0 for size in module.kernel_size):
        return f"has an even kernel, {' x '.join(map(str, module.kernel_size))}"
    if square and module.in_channels > module.out_channels:
        return f"has {module.in_channels} channels in and {module.out_channels} out"
    return None
