"""Gains: the factors by which weights make up for an activation."""

from typing import Any, Literal, get_args

from ..._support.errors import unknown_name
from .critical_points import critical_point
from .layer_maps import moments

GainKind = Literal["second_moment", "variance", "critical"]


def gain(phi: Any, kind: GainKind = "second_moment") -> float:
    """The factor by which weights of variance 1 / fan_in are multiplied to make up for an activation.

    Args:
        phi: the activation.
        kind: `second_moment` gives phi the second moment 1 at inputs of variance 1; `variance` the variance 1, as for
            normalizer-free networks; `critical` is sigma_w of the critical point.
    """
    if kind not in get_args(GainKind):
        raise unknown_name("kind of gain", str(kind), get_args(GainKind))
    if kind == "critical":
        return critical_point(phi).sigma_w
    at_one = moments(phi, 1.0)
    return (at_one.second - (at_one.mean**2 if kind == "variance" else 0.0)) ** -0.5
