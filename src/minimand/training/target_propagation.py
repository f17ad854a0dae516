"""Target propagation through hard thresholds (Friesen & Domingos 2018): FTPROP-MB."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Threshold
from ..blocks.thresholds import Heaviside, gradients_by
from ..names import unknown_name
from .losses import Loss
from .method import Plan, whole
from .parallel import unwrapped
from .target_losses import TargetLoss, UnitLoss, as_target_loss
from .thrifty import Thrifty

# Measurements cost a pass over every activation; they are taken in one step of so many.
_MEASURED_EVERY = 50

TargetRule = Callable[[Tensor, Tensor], Tensor]
"""(z, g), with the gradient g of the loss above by the activation, to targets -1, 1, or 0 for "ignore"."""


@dataclass
class TargetPropagation:
    """Every threshold unit is given a target by the layer above, and a loss of its own against it.

    With g the gradient of the layers above by the activation, the target of a unit is t = -sign(g), 0 where g is 0, and
    the loss of its input z is |g| l(z, t). Derivatives are taken within layers, pooling and normalization included;
    thresholds may stand anywhere. Activations are kept for backward as bits.

    "linear" is straight-through, "saturated_hinge" its saturated form, and "soft_hinge" has the gradient of tanh: as
    published, this method is a choice of surrogate gradients. A staircase has one loss for all its steps: soft hinge as
    published, 1 / cosh(2u - 1)^2 with u from 0 at its first jump to 1 at its last.

    Args:
        loss: "linear", "perceptron", "hinge", "saturated_hinge", "soft_hinge", "logistic", "adaline", or a function of
            (z, t) that gives a loss for every unit.
        targets: "sign", or a function of (z, g) that gives targets.
        weighting: "gradient" for |g| before each loss, "none" for 1 / N instead, N the batch.
        output_loss: what `backward` takes by hand: "cross_entropy" or a function of (outputs, y). In `fit` its `loss`
            decides.
    """

    loss: str | UnitLoss = "soft_hinge"
    targets: Literal["sign"] | TargetRule = "sign"
    weighting: Literal["gradient", "none"] = "gradient"
    output_loss: Literal["cross_entropy"] | Loss = "cross_entropy"

    references: ClassVar = ("friesen2018",)

    def __post_init__(self) -> None:
        self._steps, self._measured = 0, {}
        as_target_loss(self.loss)
        if isinstance(self.targets, str) and self.targets != "sign":
            raise unknown_name("rule for targets", self.targets, ("sign",))
        if self.weighting not in ("gradient", "none"):
            raise unknown_name("weighting", str(self.weighting), ("gradient", "none"))
        if isinstance(self.output_loss, str) and self.output_loss != "cross_entropy":
            raise unknown_name("output loss", self.output_loss, ("cross_entropy",))

    def plan(self, model: nn.Module, example: Callable[[], Tensor], num_outputs: int, epochs: int) -> Plan:
        """See `Method`."""
        return whole(model, epochs)

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss | None = None) -> tuple[Tensor, Tensor]:
        """See `Method`; without a loss `output_loss` is taken.

        Raises:
            ValueError: no threshold of the model is reached by a gradient.
        """
        if loss is None:
            loss = F.cross_entropy if isinstance(self.output_loss, str) else self.output_loss
        thrifty = Thrifty()
        forward = getattr(model, "_orig_mod", model)  # what cuts the graph is Python, which torch.compile cannot take
        plain = unwrapped(model)
        units = _Units(self, as_target_loss(self.loss), len(x), self._steps % _MEASURED_EVERY == 0, plain)
        self._steps += 1
        with gradients_by(lambda threshold, z: _noted(thrifty, threshold, z, units)), thrifty.saving():
            outputs = forward(x)
            value = loss(outputs, y)
        if not units.count:
            raise ValueError(
                f"{type(plain).__name__} has no thresholds to set targets for; mm.harden(model, mm.Sign()) puts them "
                "in the place of its activations, and mm.Backpropagation() trains it as it is."
            )
        with torch.autocast(x.device.type, enabled=False):
            value.backward()
        if units.measured:
            self._measured = {name: parts for (_, name), parts in sorted(units.measured.items())}
        return value.detach(), outputs.detach()

    def metrics(self) -> dict[str, Any]:
        """Of every threshold, by its name, as it was last looked at: what `fit` adds to the record of an epoch.

        `loss`, of its units, weighted; `flipped`, the share of activations that are not their targets; `met`, the share
        of units (channels) that meet all their targets of the batch: for those the weights show them to be feasible.
        """
        return {"thresholds": self._measured} if self._measured else {}


@dataclass
class _Units:
    """What the thresholds of one pass share."""

    method: TargetPropagation
    loss: TargetLoss
    samples: int
    measuring: bool
    model: nn.Module
    count: int = 0
    measured: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)

    def gradient(self, number: int, threshold: Threshold, z: Tensor, g: Tensor) -> Tensor:
        """What goes on to z."""
        at, slope = _centred(self.method.loss, threshold, z)
        if callable(self.method.targets):
            t = self.method.targets(z, g)
            if not isinstance(t, Tensor) or t.shape != z.shape:
                raise ValueError(
                    f"targets gave no tensor of shape {tuple(z.shape)}; expected -1, 1 or 0 for each unit."
                )
        else:
            t = g.sign().neg_()
        weight = g.abs() if self.method.weighting == "gradient" else torch.full_like(g, 1 / self.samples)
        if self.measuring:
            self._measure(number, threshold, at, t, weight)
        return self._derivative(threshold, z, at, t).mul(weight).mul_(slope)

    def _derivative(self, threshold: Threshold, z: Tensor, at: Tensor, t: Tensor) -> Tensor:
        if self.method.loss == "saturated_hinge" and (threshold.levels > 2 or isinstance(threshold, Heaviside)):
            return threshold.straight_through(z, -t)
        return self.loss.derivative(at, t)

    def _measure(self, number: int, threshold: Threshold, z: Tensor, t: Tensor, weight: Tensor) -> None:
        name = next((name for name, m in self.model.named_modules() if m is threshold), "")
        missed = (torch.where(z > 0, 1, -1) != t) & (t != 0)
        by_unit = missed.transpose(0, 1).flatten(1).any(1) if missed.ndim > 1 else missed
        shares = torch.stack([(self.loss.value(z, t) * weight).sum(), missed.sum(), by_unit.sum()]).tolist()
        name = f"{name}, again" if any(name == other for _, other in self.measured) else name
        self.measured[number, name] = {
            "loss": shares[0],
            "flipped": shares[1] / missed.numel(),
            "met": 1 - shares[2] / by_unit.numel(),
        }


def _centred(loss: str | UnitLoss, threshold: Threshold, z: Tensor) -> tuple[Tensor, float]:
    """The input that the loss looks at, and the factor that takes its derivative to that by z.

    A step is looked at as it is; of a staircase the published soft hinge is that of 2u - 1, without the 2.
    """
    if threshold.levels == 2 or loss == "linear":
        return z, 1.0
    low, high = threshold.jumps[0], threshold.jumps[-1]
    return (z - low) * (2 / (high - low)) - 1, 1.0


def _noted(thrifty: Thrifty, threshold: Threshold, z: Tensor, units: _Units) -> Tensor:
    h = _Cut.apply(z, threshold, units)
    assert isinstance(h, Tensor)
    thrifty.note(h, threshold)
    return h


class _Cut(torch.autograd.Function):
    """The activation forward; backward the gradient of the losses of its units."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Threshold, units: _Units) -> Tensor:
        ctx.number, ctx.threshold, ctx.units = units.count, threshold, units
        units.count += 1
        ctx.save_for_backward(z)
        return threshold.values(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        return ctx.units.gradient(ctx.number, ctx.threshold, z, *gradients), None, None
