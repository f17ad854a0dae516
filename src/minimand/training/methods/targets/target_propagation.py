"""Target propagation through hard thresholds (Friesen & Domingos 2018): FTPROP-MB."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError, unknown_name
from ...._support.torch.internals import uncompiled
from ....networks import as_network
from ...loop.losses import Loss
from ...loop.problems import Plan, Problem
from .._registry import METHODS
from ..method import Method
from .passes import TargetPass, TargetRule, TargetRules, backward_by_pieces
from .search import SEARCHES, Search
from .unit_losses import UnitLossFunction, as_unit_loss

# Measurements cost a pass over every activation; they are taken in one step of 50.
_STEPS_PER_MEASUREMENT = 50


@METHODS.register("target_propagation")
@dataclass
class TargetPropagation(Method):
    """Target propagation: every threshold unit gets a target from the layer above, and has its own loss against it.

    With g the gradient of the layers above by the activation, the target of a unit is t = -sign(g), 0 where g is 0, and
    the loss of its input z is |g| l(z, t). Derivatives are taken within layers, pooling and normalization included;
    thresholds may stand anywhere. Activations are kept for backward as bits.

    "linear" is straight-through, "saturated_hinge" its saturated form, and "soft_hinge" has the gradient of tanh: as
    published, this method is a choice of surrogate gradients. A staircase has one loss for all its steps: soft hinge as
    published, 1 / cosh(2u - 1)^2 with u from 0 at its first jump to 1 at its last.

    Args:
        loss: the loss of a unit: "linear", "perceptron", "hinge", "saturated_hinge", "soft_hinge", "logistic",
            "adaline", or a function of (z, t) that gives a loss for every unit.
        width: how much wider than published the loss is around the jumps: l becomes width l(z / width, t), where z of
            a staircase is measured from the middle of its jumps.
        targets: "sign" for -sign(g); "search" or "beam" (guided random local search, beam search) for only those of
            them that lower the loss of the layers above when tried out; or a function of (z, g) that gives targets.
        weighting: "gradient" for |g| before each loss, "none" for 1 / N instead, N the batch.
        output_loss: the loss that `backward` takes if it is called without one: "cross_entropy" or a function of
            (outputs, y). In `fit` its own `loss` decides.
        budget: forward passes that a search may take for each threshold at each step.
        recompute: keep only what is between the layers of a network (`mm.as_network`), as bits where a threshold gives
            it, and compute the rest again in backward: less memory for one forward pass more.
    """

    loss: str | UnitLossFunction = "soft_hinge"
    width: float = 1.0
    targets: Literal["sign"] | Search | TargetRule = "sign"
    weighting: Literal["gradient", "none"] = "gradient"
    output_loss: Literal["cross_entropy"] | Loss = "cross_entropy"
    budget: int = 4
    recompute: bool = False

    references: ClassVar = ("friesen2018",)

    def __post_init__(self) -> None:
        self.load_state({})
        as_unit_loss(self.loss)
        check_number("TargetPropagation.width", self.width, 0, math.inf, below=True)
        if self.width == 0:
            raise MinimandError("TargetPropagation.width is 0; expected a positive number.")
        if not callable(self.targets) and self.targets not in ("sign", *SEARCHES):
            raise unknown_name("rule for targets", str(self.targets), ("sign", *SEARCHES))
        check_number("TargetPropagation.budget", self.budget, 2, math.inf, whole=True)
        if self.weighting not in ("gradient", "none"):
            raise unknown_name("weighting", str(self.weighting), ("gradient", "none"))
        if isinstance(self.output_loss, str) and self.output_loss != "cross_entropy":
            raise unknown_name("output loss", self.output_loss, ("cross_entropy",))

    @property
    def takes_penalties(self) -> bool:
        return False  # the loss is computed of samples, and with targets tried

    def check(self, world_size: int) -> None:
        if world_size > 1 and (self.recompute or self.targets in SEARCHES):
            raise MinimandError(
                f"TargetPropagation.recompute is {self.recompute} and its targets {self.targets!r}, which run parts of "
                f"the model by themselves, and there are {world_size} processes; expected recompute=False and 'sign', "
                "or one process."
            )

    def plan(self, model: nn.Module, example: Callable[[], Any], num_outputs: int, epochs: int) -> Plan:
        trained = model
        # Models are cut here, as cutting at every step would be slow.
        if self.recompute and not isinstance(model, nn.Sequential):
            trained = cast(nn.Module, as_network(model, example()))
        return Plan([Problem(trained, trained, epochs)], model)

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss | None = None) -> tuple[Tensor, Tensor]:
        """Fill the `.grad` of every parameter; returns the loss and the outputs. Without `loss` it is `output_loss`."""
        if loss is None:
            loss = F.cross_entropy if isinstance(self.output_loss, str) else self.output_loss
        unit_loss = as_unit_loss(self.loss, self.width)
        rules = TargetRules(unit_loss, self.targets, self.weighting == "gradient", self.budget, self.width)
        measuring = self._steps % _STEPS_PER_MEASUREMENT == 0
        # The graph is cut by Python, which torch.compile cannot take.
        target_pass = TargetPass(rules, uncompiled(model), x, y, loss, measuring)
        self._steps += 1
        value, outputs = backward_by_pieces(target_pass) if self.recompute else target_pass.backward()
        if target_pass.measured:
            self._measured = {name: parts for (_, name), parts in sorted(target_pass.measured.items())}
        return value, outputs

    def metrics(self) -> dict[str, Any]:
        """Measurements of every threshold by name, at the last step that was measured.

        `loss` is that of its units, weighted; `flipped` the share of activations that are not their targets; `met` the
        share of units (channels) that meet all their targets of the batch, which the weights show to be feasible.
        """
        return {"thresholds": self._measured} if self._measured else {}

    def state(self) -> dict[str, Any]:
        return {"steps": self._steps, "measured": self._measured}

    def load_state(self, state: dict[str, Any]) -> None:
        self._steps, self._measured = state.get("steps", 0), state.get("measured", {})
