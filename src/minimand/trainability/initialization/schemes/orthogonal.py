"""Orthogonal weights, which keep every direction and not the mean alone."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError
from ...._support.torch_internals import ConvNd
from ..fans import WeightBlock
from ..job import Job
from ..scheme import scheme
from ..weighted_layers import WeightedLayer


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
    convolutions = [layer for layer in job.layers if isinstance(layer.module, ConvNd)]
    refused = {layer.name: why for layer in convolutions if (why := no_delta(layer.module))}
    if refused:
        listed = "; ".join(f"{name} {why}" for name, why in refused.items())
        raise MinimandError(
            f"delta_orthogonal needs stride 1, odd kernels, one group and at least as many channels out as in. "
            f"{listed}. Leave them out by exclude={tuple(refused)!r}, or use 'critical', which makes them Gaussian."
        )
    for layer in job.layers:
        isometric(job, layer, gain, "", per_unit=False)


def isometric(job: Job, layer: WeightedLayer, sigma: float, rule: str, per_unit: bool = True) -> None:
    """Set the weights of a layer to sigma times an isometry where there is one, else to Gaussian ones of that size.

    With `per_unit`, more outputs than inputs keep E h^2 of a unit instead of the norm of all.
    """
    if not isinstance(layer.module, ConvNd):
        job.fill(layer, f"{rule}orthogonal", partial(_orthogonal, job, sigma, per_unit=per_unit), sigma)
    elif no_delta(layer.module):
        gaussian(job, layer, sigma, rule)
    else:
        job.fill(layer, f"{rule}delta-orthogonal", partial(_delta, job, sigma, per_unit), sigma)


def gaussian(job: Job, layer: WeightedLayer, sigma: float, rule: str) -> None:
    """Set the weights of a layer to Gaussian ones of standard deviation sigma / sqrt(fan_in)."""

    def fill(weight: Tensor, block: WeightBlock) -> None:
        nn.init.normal_(weight, 0.0, sigma / math.sqrt(block.fan_in), generator=job.generator)

    job.fill(layer, f"{rule}Gaussian", fill, sigma)


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
