"""Training recipes: optimizer, schedule, augmentation, epochs."""

from .augmentation import Augmentation as Augmentation
from .recipe import SGD as SGD
from .recipe import Adam as Adam
from .recipe import AdamW as AdamW
from .recipe import Cosine as Cosine
from .recipe import OneCycle as OneCycle
from .recipe import Recipe as Recipe
from .recipe import StepDecay as StepDecay
from .recipe import default_recipe as default_recipe
