"""Signals: sizes, angles between samples, dead and saturated units of one tensor that passes."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...layers.thresholds import Threshold
from .flow import LayerCall

# Within a hundredth of the end of its range an activation has lost most of its slope.
_NEAR = 0.01


class Signal(NamedTuple):
    """The numbers of one tensor, as `LayerStat` explains them, and how many entries are near the ends of a range."""

    mean: float
    second: float
    variance: float
    cosine: float
    nonfinite: float
    zero: float
    dead: float
    near_one: float
    near_ends: float


UNKNOWN = Signal._make([math.nan] * len(Signal._fields))
"""The numbers of a tensor that was not measured."""


def signal(t: Tensor, samples: int) -> Tensor:
    """The numbers of a `Signal` of a batch of samples, on the device of the tensor."""
    axis = next((i for i in range(min(t.ndim, 2)) if t.shape[i] == samples), 0)
    t = t.movedim(axis, 0)
    by_sample = samples > 0 and t.ndim > 0 and t.shape[0] % samples == 0
    x = t.reshape(samples if by_sample else 1, -1).to(wide(t.device))
    squares = x.square().sum(1)
    directions = x / squares.sqrt().clamp_min(torch.finfo(x.dtype).tiny)[:, None]
    alive = (squares > 0).sum()
    nan = x.new_full((), math.nan)
    cosine = (directions.sum(0).square().sum() - alive) / (alive * (alive - 1))
    zero, size = x == 0, x.abs()
    return torch.stack(
        [
            x.mean(),
            squares.sum() / x.numel(),
            (x - x.mean(0)).square().mean() if by_sample and samples > 1 else nan,
            cosine if by_sample else nan,
            1 - x.isfinite().to(x.dtype).mean(),
            zero.to(x.dtype).mean(),
            _units(zero, t.shape, by_sample).to(x.dtype).mean(),
            (size > 1 - 2 * _NEAR).to(x.dtype).mean(),
            ((x < _NEAR) | (x > 1 - _NEAR)).to(x.dtype).mean(),
        ]
    )


def _units(zero: Tensor, shape: torch.Size, by_sample: bool) -> Tensor:
    """Whether each unit is zero everywhere: a channel of images, else an entry of the last dimension."""
    whole = zero.reshape(shape)
    unit = 1 if len(shape) >= 4 else len(shape) - 1
    return whole.movedim(unit, 0).flatten(1).all(1) if len(shape) > 1 else whole.all()


def saturated(call: LayerCall, passed_on: Signal) -> float:
    """The fraction at the ends of a bounded activation's range; nan where it has no ends or jumps between them."""
    if call.activation is None or call.activation.name == "sign" or isinstance(call.activation.function, Threshold):
        return math.nan
    low, middle, high = call.activation.function(torch.tensor([-40.0, 0.3, 40.0], dtype=torch.double)).tolist()
    if abs(high - 1) > 1e-9 or not low < middle < high:
        return math.nan
    if abs(low + 1) < 1e-9:
        return passed_on.near_one
    return passed_on.near_ends if abs(low) < 1e-9 else math.nan


def squared_norm(t: Tensor) -> Tensor:
    """The squared norm of a tensor, in double precision where the device has it."""
    return torch.linalg.vector_norm(t.detach(), dtype=wide(t.device)).square()


def wide(device: torch.device) -> torch.dtype:
    """The widest float type of a device: squares of vanishing gradients underflow in single precision."""
    return torch.float32 if device.type == "mps" else torch.float64
