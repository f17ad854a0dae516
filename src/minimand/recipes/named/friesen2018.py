"""The recipe of networks of hard-threshold units."""

from ..augmentation import Augmentation
from ..optimizers import Adam
from ..recipe import Recipe
from ..registry import RECIPES
from ..schedules import StepDecay


@RECIPES.register("friesen2018")
def friesen2018(epochs: int = 300) -> Recipe:
    """Hard-threshold networks on CIFAR-10 (Friesen & Domingos 2018): Adam with an L2 penalty in batches of 64."""
    optimizer = Adam(1e-3, weight_decay=5e-4)
    return Recipe(epochs, 64, optimizer, StepDecay((2 / 3, 5 / 6)), augmentation=Augmentation(pad=4, flip=True))
