"""The norm of the gradient, in the record of each epoch."""

from typing import Any

from torch import Tensor, nn

from minimand.training.hooks.hook import HOOKS, Hook


@HOOKS.register("gradient_norm")
class GradientNorm(Hook):
    """Adds the mean norm of the gradient over an epoch to its record."""

    total = 0.0
    steps = 0

    @classmethod
    def is_wanted(cls, training: Any) -> bool:
        return training.world.pipeline_stages == 1  # else a process sees a part of the gradient

    def measure(self) -> list[Tensor]:
        gradients = [p.grad for p in self.training.problem.trained.parameters() if p.grad is not None]
        return [self.training.world.full(nn.utils.get_total_norm(gradients))]

    def change_gradients(self, value: float, measured: list[float]) -> None:
        self.total, self.steps = self.total + measured[0], self.steps + 1

    def after_epoch(self, judged: nn.Module) -> dict[str, Any]:
        mean = self.total / self.steps
        self.total, self.steps = 0.0, 0
        return {"gradient_norm": mean}

    def state(self) -> dict[str, Any]:
        return {"total": self.total, "steps": self.steps}  # in the checkpoint: a resumed run tells the same

    def load_state(self, state: dict[str, Any]) -> None:
        self.total, self.steps = state["total"], state["steps"]
