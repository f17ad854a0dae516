"""The precision of the forward pass of a step."""

from typing import Any

from torch import Tensor, nn

from ..loop.evaluate import autocast
from ..loop.losses import Loss
from ..loop.training import Training
from .hook import HOOKS, Backward, Hook


@HOOKS.register("precision")
class AutocastHook(Hook):
    """Runs the forward pass of each step under bfloat16 autocast (`Recipe.precision`)."""

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.recipe.precision == "bf16"

    def around_backward(self, backward: Backward) -> Backward:
        def under_autocast(model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
            with autocast(self.training.device, self.training.recipe.precision):
                return backward(model, x, y, loss)

        return under_autocast
