"""The moving average of the weights."""

from collections.abc import Mapping

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..loop.training import Training
from .hook import HOOKS, Hook


@HOOKS.register("ema")
class AverageHook(Hook):
    """Evaluates, and ends with, the exponential moving average of the weights (`Recipe.ema`)."""

    average: AveragedModel

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.recipe.ema > 0

    def begin_problem(self, module: nn.Module) -> None:
        self.average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(self.training.recipe.ema))

    def copies(self) -> Mapping[str, nn.Module]:
        return {"average": self.average}

    def after_step(self, value: float) -> None:
        self.average.update_parameters(self.training.problem.module)

    def judged(self, module: nn.Module) -> nn.Module:
        return self.average.module
