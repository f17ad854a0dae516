"""Weights that keep every direction, not the mean alone: orthogonal ones, and the edge of chaos."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError, unknown_name
from ...._support.torch_internals import ConvNd
from ....layers.thresholds import Threshold
from ...mean_field import meanfield
from ...measure.tracing import arguments
from ..fans import Block
from ..job import Job, Layer
from .registry import scheme

Weights = Literal["orthogonal", "gaussian"]


@scheme(traced=False, references=("saxe2014exact",))
def orthogonal(job: Job, gain: float = 1.0) -> None:
    """Rows or columns orthonormal, whichever are fewer, times gain, for each group and gate (Saxe et al., 2014).

    A linear network then has all singular values gain^depth. A convolution is so as a matrix of patches, not as an
    operator; see `delta_orthogonal`.
    """
    check_number("gain", gain, 0, math.inf)
    for layer in job.layers:
        job.fill(layer, "orthogonal", partial(_orthogonal, job, gain), gain)


@scheme(traced=False, references=("xiao2018dynamical",))
def delta_orthogonal(job: Job, gain: float = 1.0) -> None:
    """Convolutions with an orthogonal centre tap and nothing else, other layers orthogonal (Xiao et al., 2018).

    With stride 1 and padding (k - 1) / 2 the operator is gain times an isometry. Convolutions that it is not defined
    for are an error: exclude them, or use `critical`, which makes those Gaussian.
    """
    check_number("gain", gain, 0, math.inf)
    refused = {layer.name: why for layer in job.layers if _is_convolution(layer) and (why := _no_delta(layer.module))}
    if refused:
        listed = "; ".join(f"{name} {why}" for name, why in refused.items())
        raise MinimandError(
            f"delta_orthogonal needs stride 1, odd kernels, one group and at least as many channels out as in. "
            f"{listed}. Leave them out by exclude={tuple(refused)!r}, or use 'critical', which makes them Gaussian."
        )
    for layer in job.layers:
        _isometric(job, layer, gain, "", per_unit=False)


@scheme(references=("poole2016exponential", "schoenholz2017deep"))
def critical(job: Job, weights: Weights = "orthogonal", q: float | None = None) -> None:
    """Weights and biases on the edge of chaos of the activation that a layer reads (Poole et al., 2016).

    q is the variance of pre-activations to hold; without it 1 / depth for tanh and its kin, near isometry, any for
    ReLU, the half-stable point for GELU, SiLU, Mish, the point without biases for hard thresholds. Layers that read the
    batch bring it to q; those that read a sum or a normalization have variance 1 / fan_in. Orthogonal convolutions are
    delta-orthogonal, or else Gaussian.
    """
    if weights not in get_args(Weights):
        raise unknown_name("weights", str(weights), get_args(Weights))
    points = {
        layer.reads: point_for(layer.reads.function, q, job.depth)
        for layer in job.layers
        if layer.reads is not None and not layer.recurrent
    }
    if not points and len(job.layers) > 1:
        job.notes.append("no activation was seen between layers; if there is one, name it: activation=.")
    for activation, point in points.items():
        job.notes.append(
            f"{activation}: sigma_w {point.sigma_w:.6g}, sigma_b {point.sigma_b:.6g}, q {point.q:.4g}, {point.kind}"
        )
        if point.kind == "unstable":
            job.notes.append(f"{activation}: lengths leave q = {point.q:g}; without q= there is a stable choice.")
    for layer in job.layers:
        if layer.reads is not None and layer.reads in points:
            point = points[layer.reads]
            sigma_w, sigma_b = point.sigma_w, point.sigma_b
        else:
            # The next layer's activation says which length is wanted.
            point = points.get(layer.follows) if layer.first and layer.follows else None
            sigma_w = math.sqrt(point.q / _size(job)) if point is not None else 1.0
            sigma_b = 0.0
        rule = "" if layer.reads is None else f"critical for {layer.reads}, "
        if weights == "orthogonal":
            _isometric(job, layer, sigma_w, rule)
        else:
            _gaussian(job, layer, sigma_w, rule)
        for name in layer.named("bias") if sigma_b else ():
            job.set(name, f"std {sigma_b:.4g}", partial(nn.init.normal_, std=sigma_b, generator=job.generator))


def point_for(phi: Callable[[Tensor], Tensor], q: float | None, depth: int) -> meanfield.CriticalPoint:
    """The point that `critical` takes; raises ValueError where there is none."""
    # What a threshold returns is of one size, however small the input: no length below a certain one stays.
    if q is None and isinstance(phi, Threshold):
        return meanfield.critical_point(phi, sigma_b=0.0)
    return meanfield.critical_point(phi, q=q, depth=None if q else depth)


@scheme(references=("balduzzi2017shattered",))
def looks_linear(job: Job) -> None:
    """Mirrored weights [[V, -V], [-V, V]], V orthogonal: a ReLU network that starts linear (Balduzzi et al., 2017).

    phi(u) - phi(-u) is a multiple of u for every leaky ReLU, so that norms and angles are kept at any depth. For plain
    networks of linear layers and odd convolutions of stride 1, of even width.
    """
    known = [layer.reads for layer in job.layers if layer.reads is not None]
    for layer in job.layers:
        slopes = [_mirrored_slope(phi.function) for phi in (layer.reads, layer.follows) if phi is not None]
        if None in slopes or not known:
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


def _mirrored(job: Job, rows: bool, columns: bool, gain: float, weight: Tensor, block: Block) -> None:
    half = weight[: len(weight) // (1 + rows), : weight.shape[1] // (1 + columns)]
    matrix = torch.empty(half.shape[:2], dtype=weight.dtype, device=weight.device)
    nn.init.orthogonal_(matrix, gain, generator=job.generator)
    if columns:
        matrix = torch.cat([matrix, -matrix], dim=1)
    if rows:
        matrix = torch.cat([matrix, -matrix], dim=0)
    weight.zero_()
    weight[(slice(None), slice(None), *(size // 2 for size in weight.shape[2:]))] = matrix


def _mirrored_slope(phi: Callable[[Tensor], Tensor]) -> float | None:
    """a of phi(u) - phi(-u) = a u; None if it is no multiple."""
    u = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    slopes = (phi(u.clone()) - phi(-u)) / u
    return float(slopes[0]) if torch.allclose(slopes, slopes[:1]) else None


def _no_mirror(layer: Layer) -> str | None:
    module = layer.module
    if not isinstance(module, nn.Linear) and not _is_convolution(layer):
        return f"is a {type(module).__name__}"
    if _is_convolution(layer) and (why := _no_delta(module, square=False)):
        return why
    outputs, inputs = cast(nn.Linear, module).weight.shape[:2]
    if layer.reads is not None and inputs % 2:
        return f"reads an odd number of units, {inputs}"
    return f"has an odd number of units, {outputs}" if layer.follows is not None and outputs % 2 else None


def _isometric(job: Job, layer: Layer, sigma: float, rule: str, per_unit: bool = True) -> None:
    """sigma times an isometry where there is one, else Gaussian of the same size.

    With `per_unit`, more outputs than inputs keep E h^2 of a unit instead of the norm of all.
    """
    if not _is_convolution(layer):
        job.fill(layer, f"{rule}orthogonal", partial(_orthogonal, job, sigma, per_unit=per_unit), sigma)
    elif _no_delta(layer.module):
        _gaussian(job, layer, sigma, rule)
    else:
        job.fill(layer, f"{rule}delta-orthogonal", partial(_delta, job, sigma, per_unit), sigma)


def _gaussian(job: Job, layer: Layer, sigma: float, rule: str) -> None:
    def fill(weight: Tensor, block: Block) -> None:
        nn.init.normal_(weight, 0.0, sigma / math.sqrt(block.fan_in), generator=job.generator)

    job.fill(layer, f"{rule}Gaussian", fill, sigma)


def _orthogonal(job: Job, gain: float, weight: Tensor, block: Block, per_unit: bool = False) -> None:
    matrices = block.matrices(weight).clone()
    rows, columns = matrices.shape[1:]
    factor = math.sqrt(max(rows, columns) / block.fan_in) if per_unit else 1.0
    for matrix in matrices:
        nn.init.orthogonal_(matrix, gain * factor, generator=job.generator)
    block.assign(weight, matrices)


def _delta(job: Job, gain: float, per_unit: bool, weight: Tensor, block: Block) -> None:
    centre = torch.empty(weight.shape[:2], dtype=weight.dtype, device=weight.device)
    factor = math.sqrt(max(1.0, centre.shape[0] / centre.shape[1])) if per_unit else 1.0
    nn.init.orthogonal_(centre, gain * factor, generator=job.generator)
    weight.zero_()
    weight[(slice(None), slice(None), *(size // 2 for size in weight.shape[2:]))] = centre


def _no_delta(module: nn.Module, square: bool = True) -> str | None:
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


def _is_convolution(layer: Layer) -> bool:
    return isinstance(layer.module, ConvNd)


def _size(job: Job) -> float:
    """E x^2 of the batch; 1 where it is not known."""
    if job.batch is None:
        return 1.0
    args, kwargs = arguments(job.batch)
    first = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point()), None)
    return 1.0 if first is None else float(first.double().square().mean()) or 1.0
