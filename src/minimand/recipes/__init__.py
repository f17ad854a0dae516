"""Training recipes: optimizer, schedule, augmentation, epochs."""

from .augmentation import Augmentation as Augmentation
from .optimizers import SGD as SGD, Adam as Adam, AdamW as AdamW
from .recipe import Recipe as Recipe, default_recipe as default_recipe
from .schedules import Cosine as Cosine, OneCycle as OneCycle, StepDecay as StepDecay
