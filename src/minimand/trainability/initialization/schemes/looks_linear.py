"""Rectifier networks that start as linear ones."""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ...._support.errors import MinimandError
from ...._support.torch_internals import ConvNd
from ....networks.kinds import LINEAR_OR_CONVOLUTION
from ..fans import WeightBlock
from ..job import Job
from ..scheme import scheme
from ..weighted_layers import WeightedLayer
from .orthogonal import no_delta, set_centre


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
    height = len(weight) // 2 if rows else len(weight)
    width = weight.shape[1] // 2 if columns else weight.shape[1]
    matrix = torch.empty((height, width), dtype=weight.dtype, device=weight.device)
    nn.init.orthogonal_(matrix, gain, generator=job.generator)
    if columns:
        matrix = torch.cat([matrix, -matrix], dim=1)
    if rows:
        matrix = torch.cat([matrix, -matrix], dim=0)
    set_centre(weight, matrix)


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
