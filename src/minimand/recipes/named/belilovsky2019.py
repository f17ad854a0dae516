"""The recipes of greedy layerwise learning, for each layer."""

from dataclasses import replace
from typing import Literal

from ..._support.checks import check_choice
from ..augmentation import Augmentation
from ..optimizers import SGD
from ..recipe import Recipe
from ..registry import RECIPES
from ..schedules import StepDecay

Images = Literal["cifar10", "imagenet"]
"""The data of the two recipes; those of ImageNet cut and mirror their images themselves."""


@RECIPES.register("belilovsky2019")
def belilovsky2019(epochs: int | None = None, images: Images = "cifar10") -> Recipe:
    """Greedy layerwise learning (Belilovsky et al. 2019): SGD, in batches of 128 (ImageNet: 256), its rate in steps.

    The epochs of a layer are 50 on CIFAR-10 and 45 on ImageNet.

    Raises:
        MinimandError: other images.
    """
    check_choice("images", images, Images)
    recipe = Recipe(50, 128, SGD(0.1), StepDecay((0.3, 0.6, 0.9), 0.2), augmentation=Augmentation(pad=4, flip=True))
    if images == "imagenet":
        recipe = Recipe(45, 256, SGD(0.1, weight_decay=1e-4), StepDecay((20 / 45, 40 / 45)))
    return recipe if epochs is None else replace(recipe, epochs=epochs)
