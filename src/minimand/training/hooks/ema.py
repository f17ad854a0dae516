"""The moving average of the weights."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..loop.training import Training
from .hook import HOOKS, Hook

_Tensors = tuple[Tensor, ...] | list[Tensor]


@HOOKS.register("ema")
class AverageHook(Hook):
    """Evaluates, and ends with, the exponential moving average of the weights (`Recipe.ema`).

    After n steps the decay is at most (1 + n) / (10 + n), so that a short training does not end at its first weights.
    """

    average: AveragedModel

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.recipe.ema > 0

    def begin_problem(self, module: nn.Module) -> None:
        decay = self.training.recipe.ema

        def average(averages: _Tensors, weights: _Tensors, steps: Tensor | int) -> None:
            get_ema_multi_avg_fn(decay_after(int(steps), decay))(averages, weights, steps)

        self.average = AveragedModel(module, multi_avg_fn=average)

    def copies(self) -> Mapping[str, nn.Module]:
        return {"average": self.average}

    def after_step(self, value: float) -> None:
        self.average.update_parameters(self.training.problem.module)

    def judged(self, module: nn.Module) -> nn.Module:
        return self.average.module


def decay_after(steps: int, decay: float) -> float:
    """The decay of the average after so many steps: it grows to `decay`."""
    return min(decay, (1 + steps) / (10 + steps))
