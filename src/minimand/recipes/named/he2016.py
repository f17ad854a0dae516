"""The recipe of ResNets for CIFAR."""

from ..augmentation import Augmentation
from ..optimizers import SGD
from ..recipe import Recipe
from ..registry import RECIPES
from ..schedules import StepDecay


@RECIPES.register("he2016")
def he2016(epochs: int = 164) -> Recipe:
    """ResNets on CIFAR (He et al. 2016): SGD at 0.1, a tenth after half and three quarters, shifts and flips."""
    optimizer = SGD(lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=False)
    return Recipe(epochs, 128, optimizer, StepDecay(), augmentation=Augmentation(pad=4, flip=True))
