"""Training recipes: optimizer, schedule, augmentation, epochs."""

from .augmentation import Augmentation as Augmentation
from .optimizers import SGD as SGD
from .optimizers import Adam as Adam
from .optimizers import AdamW as AdamW
from .recipe import Recipe as Recipe
from .recipe import default_recipe as default_recipe
from .schedules import Cosine as Cosine
from .schedules import OneCycle as OneCycle
from .schedules import StepDecay as StepDecay
