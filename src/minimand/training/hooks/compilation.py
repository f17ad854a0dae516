"""The hook that trains a model through torch.compile."""

from torch import nn

from ..._support.torch.internals import uncompiled
from ...networks.compiled import compiled
from ..loop.training import Training
from .hook import HOOKS, Hook


@HOOKS.register("compilation")
class CompilationHook(Hook):
    """Runs the forward pass of each step through torch.compile (`Recipe.compile`), as the caller compiled it if so."""

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.recipe.compile

    def callable(self, module: nn.Module) -> nn.Module:
        own = self.training.compiled_model
        return own if own is not None and uncompiled(own) is module else compiled(module)
