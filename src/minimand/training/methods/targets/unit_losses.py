"""Losses of a threshold unit: of its input z against its target t, -1 or 1, and 0 for a unit that is ignored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...._support.errors import MinimandError, unknown_name

UnitLoss = Callable[[Tensor, Tensor], Tensor]
"""(z, t) to the loss of each unit, of one shape."""


@dataclass(frozen=True)
class TargetLoss:
    """A loss l(z, t) and its derivative by z, both entry by entry."""

    value: UnitLoss
    derivative: UnitLoss
    linear: bool = False
    """Whether the derivative is linear in t."""


def _perceptron(z: Tensor, t: Tensor) -> Tensor:
    return -t * (t * z <= 0)


def _hinge(z: Tensor, t: Tensor) -> Tensor:
    return -t * (t * z <= 1)


def _saturated_hinge(z: Tensor, t: Tensor) -> Tensor:
    return -t * (z.abs() <= 1)


def _soft_hinge(z: Tensor, t: Tensor) -> Tensor:
    # -t (1 - tanh(z)^2), by the logistic function, which takes a seventh of the time of tanh.
    s = (2 * z).sigmoid_()
    return torch.ops.aten.sigmoid_backward.grad_input(t, s, grad_input=s).mul_(-4)


LOSSES: Mapping[str, TargetLoss] = {
    "linear": TargetLoss(lambda z, t: 1 - t * z, lambda z, t: -t, linear=True),
    "perceptron": TargetLoss(lambda z, t: F.relu(-t * z), _perceptron),
    "hinge": TargetLoss(lambda z, t: F.relu(1 - t * z), _hinge),
    "saturated_hinge": TargetLoss(lambda z, t: F.relu(1 - t * z).clamp(max=2), _saturated_hinge, linear=True),
    "soft_hinge": TargetLoss(lambda z, t: 1 - (t * z).tanh(), _soft_hinge, linear=True),
    "logistic": TargetLoss(lambda z, t: F.softplus(-t * z), lambda z, t: -t * torch.sigmoid(-t * z)),
    "adaline": TargetLoss(lambda z, t: (z - t).square() / 2 * t.abs(), lambda z, t: t.abs() * (z - t)),
}
"""By name; all are 0 or constant where t is 0."""


def as_target_loss(loss: str | UnitLoss) -> TargetLoss:
    """The loss that a name or a function of (z, t) stands for; a function is differentiated by autograd.

    Raises:
        ValueError: an unknown name.
    """
    if not callable(loss):
        if loss not in LOSSES:
            raise unknown_name("loss of thresholds", str(loss), LOSSES)
        return LOSSES[loss]

    def derivative(z: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            value = loss(at, t)
            if not isinstance(value, Tensor) or value.shape != z.shape:
                shown = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise MinimandError(
                    f"the loss of thresholds gave {shown}; expected one value a unit, {tuple(z.shape)}."
                )
            return torch.autograd.grad(value.sum(), at)[0]

    return TargetLoss(loss, derivative)
