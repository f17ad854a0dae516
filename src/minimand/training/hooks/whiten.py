"""A first layer that whitens patches of the training images."""

from typing import cast

from torch import Tensor, nn

from ...data.data import as_prepared
from ...networks.kinds import layers
from ...trainability.initialization.initialize import initialize
from ..loop.training import Training
from .hook import HOOKS, Hook, check_images

_IMAGES = 5000


@HOOKS.register("whiten")
class WhitenHook(Hook):
    """Gives the first layer whitening filters that stay, and trains its bias for the first epochs (`Recipe.whiten`)."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.first = next(iter(layers(training.model).values()))

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        recipe, data = training.recipe, training.data
        if recipe.whiten:
            check_images("whiten", data, recipe.whiten)
        return recipe.whiten > 0

    def begin_problem(self, module: nn.Module) -> None:
        training = self.training
        if training.step == 0:
            images = as_prepared(training.data, training.data.train, training.device)
            batch, _ = next(images.batches(_IMAGES))
            initialize(training.model, "whiten", batch=batch)
            training.world.broadcast([self._weight])
        self._weight.requires_grad_(False)

    def change_gradients(self, value: float, measured: list[float]) -> None:
        training = self.training
        if training.step >= training.recipe.whiten * training.steps_per_epoch and self._bias is not None:
            self._bias.grad = None  # optimizers pass over it

    def final(self, module: nn.Module) -> nn.Module:
        self._weight.requires_grad_()
        return module

    @property
    def _weight(self) -> Tensor:
        return cast(Tensor, self.first.weight)

    @property
    def _bias(self) -> Tensor | None:
        return getattr(self.first, "bias", None)
