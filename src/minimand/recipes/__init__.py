"""Training recipes: optimizer, schedule, augmentation, epochs."""

from .augmentation import Augmentation as Augmentation
from .optimizers import SGD as SGD, Adam as Adam, AdamW as AdamW
from .recipe import (
    Recipe as Recipe,
    as_config as as_config,
    default_recipe as default_recipe,
    from_config as from_config,
)
from .registry import as_recipe as as_recipe, list_recipes as list_recipes
from .schedules import Cosine as Cosine, OneCycle as OneCycle, StepDecay as StepDecay
