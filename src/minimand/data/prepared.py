"""Batches as a model sees them: on its device, augmented, normalized."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..recipes.augmentation import Augmentation
from .samples import WHOLE, Batch, Samples

if TYPE_CHECKING:
    from .data import Data


class PreparedSamples:
    """Samples whose batches are ready for a model: on its device, augmented if asked, normalized; classes as int64.

    Args:
        data: says how inputs are normalized, and which classes there are.
        samples: the raw samples.
        device: where the model is.
        augmentation: random changes of each batch of images; None for none.
        check: whether the classes of each batch are checked, for samples that nobody has looked at before.
    """

    is_prepared = True

    def __init__(
        self,
        data: "Data",
        samples: Samples,
        device: torch.device,
        augmentation: Augmentation | None = None,
        check: bool = True,
    ) -> None:
        self.data, self.samples, self.device, self.augmentation = data, samples, device, augmentation
        self.check = check and data.task == "classification"

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        """Prepared batches, in the order that the raw samples have for the same arguments."""
        # Called now, not when the first batch is asked for: a loader may draw random numbers.
        raw_batches = self.samples.batches(size, seed, first, share)
        return (self._prepare(inputs, targets) for inputs, targets in raw_batches)

    def count(self, size: int, shuffled: bool) -> int:
        """Count the batches of a size; shuffled ones leave an incomplete last one out."""
        return self.samples.count(size, shuffled)

    def to(self, device: torch.device) -> "PreparedSamples":
        """Move the samples to a device on which the model is now."""
        return PreparedSamples(self.data, self.samples.to(device), device, self.augmentation, self.check)

    def _prepare(self, inputs: Tensor, targets: Tensor) -> Batch:
        if self.check:
            self.data.check_classes(targets)
        x, y = inputs.to(self.device), targets.to(self.device)
        if self.augmentation is not None and x.ndim == 4:
            x = self.augmentation(x)
        return self.data.prepare(x), y.long() if self.data.task == "classification" else y


def as_prepared(data: "Data", samples: Any, device: torch.device) -> Any:
    """Samples with prepared batches, not augmented; those that are prepared already as they are."""
    return samples if getattr(samples, "is_prepared", False) else PreparedSamples(data, samples, device)
