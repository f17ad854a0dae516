"""The model through torch.compile."""

from torch import nn

from ...networks.compiled import compiled
from ..loop.training import Training
from .hook import HOOKS, Hook


@HOOKS.register("compilation")
class CompilationHook(Hook):
    """Runs the forward pass of each step through torch.compile (`Recipe.compile`)."""

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.recipe.compile

    def callable(self, module: nn.Module) -> nn.Module:
        return compiled(module)
