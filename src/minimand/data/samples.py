"""Samples, in memory or not, as a sequence of batches that can be entered anywhere."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from .._support.errors import MinimandError, WrongTypeError
from .._support.seeds import derived_seed, seed_everything

Batch = tuple[Tensor, Tensor]
WHOLE = slice(None)


class Samples(Protocol):
    """Samples of a data set: inputs with targets, as batches that can be entered anywhere."""

    def __len__(self) -> int:
        """Count the samples of the data set."""
        ...

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        """Batches of a size, from batch `first` on; shuffled by a seed, which also decides any randomness within.

        Each batch has the rows of a share: one process's part.
        """
        ...

    def count(self, size: int, shuffled: bool) -> int:
        """Count the batches of a size; shuffled ones leave an incomplete last one out."""
        # Its statistics would be another batch's.
        return max(len(self) // size, 1) if shuffled else -(-len(self) // size)

    def to(self, device: torch.device) -> "Samples":
        """Move samples that are in memory to a device; others stay as they are."""
        return self


@dataclass(frozen=True)
class Arrays(Samples):
    """Samples in memory: inputs (n, ...), targets (n,) or (n, outputs)."""

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets) or len(self.inputs) == 0:
            counts = f"{len(self.inputs)} inputs with {len(self.targets)} targets"
            raise MinimandError(f"{counts}; expected as many of both, and some.")

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        order = _order(len(self), seed).to(self.inputs.device)
        for b in range(first, self.count(size, seed is not None)):
            chosen = order[b * size : (b + 1) * size][share]
            yield self.inputs[chosen], self.targets[chosen]

    def to(self, device: torch.device) -> "Arrays":
        return Arrays(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Items(Samples):
    """Samples of a data set that does not fit in memory; they are read by worker processes."""

    dataset: Any
    """Map-style: it has a length and is indexed."""
    workers: int = 2

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        batches = _BatchReader(self.dataset, size, _order(len(self), seed), seed, share)
        numbers = range(first, self.count(size, seed is not None))
        return iter(DataLoader(batches, batch_size=None, sampler=numbers, num_workers=self.workers))


@dataclass(frozen=True)
class Loader(Samples):
    """Batches that somebody else's loader makes; entered later by skipping."""

    loader: Any

    def __post_init__(self) -> None:
        name = type(self.loader).__name__
        try:
            length = len(self.loader)
        except TypeError:
            raise WrongTypeError(f"{name} has no length; expected a loader that knows how many batches.") from None
        if length == 0:
            raise MinimandError(f"{name} is empty; expected a loader of at least one batch.")

    def __len__(self) -> int:
        dataset = getattr(self.loader, "dataset", None)
        return len(dataset) if isinstance(dataset, Sized) else self.counted[0]

    @cached_property
    def counted(self) -> tuple[int, int]:
        """The number of samples and the highest class, counted once by a pass over the batches."""
        counts = [(len(targets), int(targets.max())) for _, targets in self.loader]
        return sum(n for n, _ in counts), max(highest for _, highest in counts)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        if seed is not None:
            seed_everything(seed)
            for part in (self.loader, getattr(self.loader, "sampler", None)):
                generator = getattr(part, "generator", None)
                if isinstance(generator, torch.Generator):
                    generator.manual_seed(seed)
        iterator = iter(self.loader)
        for _ in range(first):  # now, not when the first batch is asked for: skipping draws random numbers
            next(iterator)
        return iterator if share == WHOLE else ((inputs[share], targets[share]) for inputs, targets in iterator)

    def count(self, size: int, shuffled: bool) -> int:
        return len(self.loader)


class _BatchReader(Dataset):
    """Batch b of a data set in a given order, random transforms included, whoever reads it and when."""

    def __init__(self, dataset: Any, size: int, order: Tensor, seed: int | None, share: slice) -> None:
        self.dataset, self.size, self.order, self.seed, self.share = dataset, size, order, seed, share

    def __getitem__(self, b: int) -> Any:
        chosen = self.order[b * self.size : (b + 1) * self.size][self.share].tolist()
        with torch.random.fork_rng(devices=[]):
            batch_seed, rank = derived_seed(self.seed or 0, b), self.share.start or 0
            seed_everything(derived_seed(batch_seed, rank) if rank else batch_seed)
            return default_collate([self.dataset[i] for i in chosen])


def _order(n: int, seed: int | None) -> Tensor:
    return torch.arange(n) if seed is None else torch.randperm(n, generator=torch.Generator().manual_seed(seed))
