"""The samples of a cache: all of them, as a network sees them."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ...._support.errors import MinimandError
from ...._support.seeds import derived_seed, seed_everything
from ....data.data import Data, PreparedSamples
from ....data.samples import Batch, Loader
from ....recipes.recipe import Recipe
from ...distributed.world import World
from .activations import Source

if TYPE_CHECKING:
    from ...loop.training import Training

# Samples at a time.
_BATCH = 256


def sources(training: "Training", views: int) -> list[Source]:
    """Training samples in each view, augmented if there are several, and test samples as they are."""
    data, recipe = training.data, training.recipe
    augmentation = recipe.augmentation or data.augmentation if views > 1 else None
    train = PreparedSamples(data, data.train.to(training.device), training.device, augmentation)

    def batches(samples: PreparedSamples, view: int) -> Iterator[Batch]:
        seed_everything(derived_seed(training.seed, -2 - view))
        yield from samples.batches(_BATCH)

    return [
        Source(len(data.train), views, partial(batches, train)),
        Source(len(data.test), 1, partial(batches, training.test_samples)),
    ]


def check_cached(data: Data, recipe: Recipe, world: World) -> None:
    """Raise MinimandError for data or a recipe whose activations cannot be cached."""
    if world.batch_shares > 1:
        raise MinimandError(
            f"activations cannot be kept by {world.batch_shares} processes, each of which would need those of all "
            "samples; expected cache='off', or one process."
        )
    if recipe.mixup or recipe.cutmix:
        raise MinimandError("activations are kept of single samples, and the recipe mixes them; expected cache='off'.")
    if isinstance(data.train, Loader) or isinstance(data.test, Loader):
        raise MinimandError("activations of a loader cannot be kept; expected cache='off', tensors or a data set.")
