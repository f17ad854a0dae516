"""Layers that solve equations: their regularization, and how their solves went."""

from typing import Any

import torch
from torch import Tensor, nn

from ...equilibrium import Equilibrium, Tally
from ..loop.losses import Loss
from ..loop.training import Training
from .hook import HOOKS, Backward, Hook


@HOOKS.register("equilibria")
class EquilibriaHook(Hook):
    """Adds the penalties of equilibria to the loss, and counts in each epoch's record how their solves ended.

    `solves_converged`, `solves_stopped` and `solves_diverged` are the shares of samples, of all layers together and
    with those of the epoch's evaluation, `solve_steps` is their mean, and `gradient_solves_converged` the share of
    gradients whose linear equation converged.
    """

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.layers = _layers(training)

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return bool(_layers(training))

    def begin_problem(self, module: nn.Module) -> None:
        for layer in self.layers:
            layer.tally.reset()

    def around_backward(self, backward: Backward) -> Backward:
        if not any(layer.jacobian_weight for layer in self.layers):
            return backward

        def regularized(model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
            def both(outputs: Tensor, targets: Tensor) -> Tensor:
                penalties = [layer.penalty for layer in self.layers if layer.penalty is not None]
                return torch.stack([loss(outputs, targets), *penalties]).sum()

            return backward(model, x, y, both)

        return regularized

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
