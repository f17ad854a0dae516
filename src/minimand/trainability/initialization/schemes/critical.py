"""The edge of chaos of the activations that layers read."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from ...._support.checks import check_choice
from ....layers.thresholds import Threshold
from ...mean_field.critical_points import CriticalPoint, critical_point
from ...measure.tracing import arguments
from ..scheme import Job, scheme
from .orthogonal import gaussian, isometric

WeightDistribution = Literal["orthogonal", "gaussian"]


@scheme("critical", references=("poole2016exponential", "schoenholz2017deep"))
def critical(job: Job, weights: WeightDistribution = "orthogonal", q: float | None = None) -> None:
    """Weights and biases on the edge of chaos of the activation that a layer reads (Poole et al., 2016).

    q is the variance of pre-activations to hold; without it 1 / depth for tanh and its kin, near isometry, any for
    ReLU, the half-stable point for GELU, SiLU, Mish, the point without biases for hard thresholds. Layers that read the
    batch bring it to q; those that read a sum or a normalization have variance 1 / fan_in. Orthogonal convolutions are
    delta-orthogonal, or else Gaussian.
    """
    check_choice("weights", weights, WeightDistribution)
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
            sigma_w = math.sqrt(point.q / _second_moment(job)) if point is not None else 1.0
            sigma_b = 0.0
        rule = "" if layer.reads is None else f"critical for {layer.reads}, "
        (isometric if weights == "orthogonal" else gaussian)(job, layer, sigma_w, rule)
        for name in layer.named("bias") if sigma_b else ():
            job.set(name, f"std {sigma_b:.4g}", partial(nn.init.normal_, std=sigma_b, generator=job.generator))


def point_for(phi: Callable[[Tensor], Tensor], q: float | None, depth: int) -> CriticalPoint:
    """The critical point that suits an activation in a network of a depth; raises MinimandError where there is none."""
    # What a threshold returns is of one size, however small the input: no length below a certain one stays.
    if q is None and isinstance(phi, Threshold):
        return critical_point(phi, sigma_b=0.0)
    return critical_point(phi, q=q, depth=None if q else depth)


def _second_moment(job: Job) -> float:
    """The second moment E x^2 of the batch; 1 where it is not known."""
    if job.batch is None:
        return 1.0
    args, kwargs = arguments(job.batch)
    first = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point()), None)
    return 1.0 if first is None else float(first.double().square().mean()) or 1.0
