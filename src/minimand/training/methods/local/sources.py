"""What activations are kept of: all samples, as a network sees them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from ...._support.errors import MinimandError
from ....data.data import Data
from ....data.samples import Batch, Loader, Samples, seed_everything
from ....recipes.augmentation import Augmentation
from ...distributed.ranks import Ranks
from ...runs.seeds import mixed
from .activations import Source

# Samples at a time.
_BATCH = 256


def sources(
    data: Data, train: Samples, test: Samples, views: int, augment: Augmentation, seed: int, device: torch.device
) -> list[Source]:
    """Training samples in each view, augmented if there are several, and test samples as they are."""

    def batches(samples: Samples, augmented: bool, view: int) -> Iterator[Batch]:
        seed_everything(mixed(seed, -2 - view))
        for inputs, targets in samples.batches(_BATCH):
            inputs = inputs.to(device)
            yield data.prepare(augment(inputs) if augmented and inputs.ndim == 4 else inputs), targets

    return [
        Source(len(train), views, partial(batches, train, views > 1)),
        Source(len(test), 1, partial(batches, test, False)),
    ]


def check_cached(data: Data, mixing: Any, ranks: Ranks) -> None:
    """Raise ValueError for what activations cannot be kept of."""
    if ranks.count > 1:
        raise MinimandError(
            f"activations cannot be kept by {ranks.count} processes, each of which would need those of all samples; "
            "expected cache='off', or one process."
        )
    if mixing is not None:
        raise MinimandError("activations are kept of single samples, and the recipe mixes them; expected cache='off'.")
    if isinstance(data.train, Loader) or isinstance(data.test, Loader):
        raise MinimandError("activations of a loader cannot be kept; expected cache='off', tensors or a data set.")
