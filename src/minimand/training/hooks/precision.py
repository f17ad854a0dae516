"""The precision of a forward pass."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...recipes.recipe import Precision
from ..loop.losses import Loss
from .hook import HOOKS, Backward, Hook

if TYPE_CHECKING:
    from ..loop.training import Training


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs: bfloat16 autocast, or float32 as it is."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@HOOKS.register("precision")
class AutocastHook(Hook):
    """Runs the forward pass of each step under bfloat16 autocast (`Recipe.precision`)."""

    @classmethod
    def is_wanted(cls, training: "Training") -> bool:
        return training.recipe.precision == "bf16"

    def around_backward(self, backward: Backward) -> Backward:
        def under_autocast(model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
            with autocast(self.training.device, self.training.recipe.precision):
                return backward(model, x, y, loss)

        return under_autocast
