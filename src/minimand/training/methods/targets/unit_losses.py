"""Losses of a threshold unit: of its input z against its target t, -1 or 1, and 0 for a unit that is ignored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...._support.errors import MinimandError, unknown_name

UnitLossFunction = Callable[[Tensor, Tensor], Tensor]
"""A function of inputs z and targets t that gives a value for each unit; all three tensors have one shape."""


@dataclass(frozen=True)
class UnitLoss:
    """The loss l(z, t) of a threshold unit and its derivative by z, both entry by entry."""

    name: str
    value: UnitLossFunction
    derivative: UnitLossFunction
    linear: bool = False
    """Whether the derivative is linear in t."""


def _soft_hinge(z: Tensor, t: Tensor) -> Tensor:
    # -t (1 - tanh(z)^2), by the logistic function, which takes a seventh of the time of tanh. It is even in z: where
    # the logistic function s is small, 1 - s loses nothing; on the other side the digits of bfloat16 would cancel.
    s = z.abs().mul_(-2).sigmoid_()
    return torch.ops.aten.sigmoid_backward.grad_input(t, s, grad_input=s).mul_(-4)


_LOSSES = (
    UnitLoss("linear", lambda z, t: 1 - t * z, lambda z, t: -t, linear=True),
    UnitLoss("perceptron", lambda z, t: F.relu(-t * z), lambda z, t: -t * (t * z <= 0)),
    UnitLoss("hinge", lambda z, t: F.relu(1 - t * z), lambda z, t: -t * (t * z <= 1)),
    UnitLoss("saturated_hinge", lambda z, t: F.relu(1 - t * z).clamp(max=2), lambda z, t: -t * (z.abs() <= 1), True),
    UnitLoss("soft_hinge", lambda z, t: 1 - (t * z).tanh(), _soft_hinge, linear=True),
    UnitLoss("logistic", lambda z, t: F.softplus(-t * z), lambda z, t: -t * torch.sigmoid(-t * z)),
    UnitLoss("adaline", lambda z, t: (z - t).square() / 2 * t.abs(), lambda z, t: t.abs() * (z - t)),
)

LOSSES: Mapping[str, UnitLoss] = {loss.name: loss for loss in _LOSSES}
"""The losses of threshold units by name; every one is 0 or constant where the target is 0."""


def as_unit_loss(loss: str | UnitLossFunction, width: float = 1.0) -> UnitLoss:
    """The loss that a name or a function of (z, t) stands for; a function is differentiated by autograd.

    With a width w it is w l(z / w, t), whose derivative is that of l at z / w.
    """
    plain = _as_unit_loss(loss)
    if width == 1:
        return plain
    return replace(
        plain,
        value=lambda z, t: width * plain.value(z / width, t),
        derivative=lambda z, t: plain.derivative(z / width, t),
    )


def _as_unit_loss(loss: str | UnitLossFunction) -> UnitLoss:
    if not callable(loss):
        if loss not in LOSSES:
            raise unknown_name("loss of thresholds", str(loss), LOSSES)
        return LOSSES[loss]

    def derivative(z: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = loss(leaf, t)
            if not isinstance(value, Tensor) or value.shape != z.shape:
                shown = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                expected = f"expected one value a unit, {tuple(z.shape)}"
                raise MinimandError(f"the loss of thresholds gave {shown}; {expected}.")
            return torch.autograd.grad(value.sum(), leaf)[0]

    return UnitLoss("", loss, derivative)
