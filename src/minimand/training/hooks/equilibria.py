"""Layers that solve equations: their regularization, and how their solves went."""

from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ...equilibrium import Equilibrium, Tally
from ..loop.losses import Loss
from ..loop.training import Training
from .hook import HOOKS, Backward, Hook


@HOOKS.register("equilibria")
class EquilibriaHook(Hook):
    """Adds the penalties of equilibria to the loss, and counts in each epoch's record how their solves ended.

    Each penalty is added once, to the first loss after its call: of several modules that learn by losses of their own
    to the one of the module that it is part of.

    `solves_converged`, `solves_stopped` and `solves_diverged` are the shares of samples, of all layers together and
    with those of the epoch's evaluation, `solve_steps` is their mean, and `gradient_solves_converged` the share of
    gradients whose linear equation converged.
    """

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.layers = _layers(training)

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        layers, method = _layers(training), training.method
        if not method.takes_penalties and (weight := max((layer.jacobian_weight for layer in layers), default=0)):
            raise MinimandError(
                f"an equilibrium has jacobian_weight={weight:g}, a penalty that is added to the loss, which {method} "
                "does not take as it is; expected jacobian_weight=0, or another method such as 'backpropagation'."
            )
        return bool(layers)

    def begin_problem(self, module: nn.Module) -> None:
        for layer in self.layers:
            layer.tally.reset()

    def around_backward(self, backward: Backward) -> Backward:
        if not any(layer.jacobian_weight for layer in self.layers):
            return backward

        def regularized(model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
            def both(outputs: Tensor, targets: Tensor) -> Tensor:
                penalties = self._taken_penalties()
                return torch.stack([loss(outputs, targets), *penalties]).sum()

            self._taken_penalties()  # of a call before, whose graph is gone
            return backward(model, x, y, both)

        return regularized

    def _taken_penalties(self) -> list[Tensor]:
        """The penalties of calls since the last time."""
        penalties = [layer.penalty for layer in self.layers if layer.penalty is not None]
        for layer in self.layers:
            layer.penalty = None
        return penalties

    def after_epoch(self, judged: nn.Module) -> dict[str, Any]:
        counts = torch.tensor(self._counts(), dtype=torch.double, device=self.training.device)
        total = Tally(*map(int, self.training.world.all_reduce(counts.sum(0)).tolist()))
        for layer in self.layers:
            layer.tally.reset()
        if not total.samples:
            return {}
        results = ("converged", "stopped", "diverged")
        record = {f"solves_{result}": getattr(total, result) / total.samples for result in results}
        record["solve_steps"] = total.steps / total.samples
        if total.gradients:
            record["gradient_solves_converged"] = total.gradients_converged / total.gradients
        return record

    def state(self) -> dict[str, Any]:
        return {"tallies": self._counts()}

    def load_state(self, state: dict[str, Any]) -> None:
        for layer, counts in zip(self.layers, state["tallies"], strict=True):
            layer.tally = Tally(*counts)

    def _counts(self) -> list[list[int]]:
        return [list(layer.tally.counts().values()) for layer in self.layers]


def _layers(training: Training) -> list[Equilibrium]:
    return [module for module in training.plan.saved.modules() if isinstance(module, Equilibrium)]
