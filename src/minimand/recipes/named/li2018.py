"""The recipe of HB-Net and AGD-Net."""

from ..augmentation import Augmentation
from ..optimizers import SGD
from ..recipe import Recipe
from ..registry import RECIPES
from ..schedules import StepDecay


@RECIPES.register("li2018")
def li2018(epochs: int = 300, augmented: bool = True) -> Recipe:
    """HB-Net and AGD-Net on CIFAR (Li et al. 2018): Nesterov's SGD in batches of 64, shifts and flips or none."""
    augmentation = Augmentation(pad=4, flip=True) if augmented else Augmentation()
    return Recipe(epochs, 64, SGD(weight_decay=1e-4), StepDecay(), augmentation=augmentation)
