"""Samples, in memory or not, as a sequence of batches that can be entered anywhere."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from .._support.errors import MinimandError, WrongTypeError
from .._support.torch.seeds import derived_seed, seed_everything
from .batches import Batch as Batch, as_batch, each

NO_CLASS = -100
"""The target of a place that has no class, which torch's losses ignore."""
_COUNTED = 10_000_000  # the most samples that are read to know how many there are
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
        # An incomplete batch would have other statistics than the rest.
        return max(len(self) // size, 1) if shuffled else -(-len(self) // size)

    def to(self, device: torch.device) -> "Samples":
        """Move samples that are in memory to a device; others stay as they are."""
        return self


@dataclass(frozen=True)
class Arrays(Samples):
    """Samples in memory: inputs (n, ...), or several in a tuple or dictionary; targets (n,), (n, outputs) or dense."""

    inputs: Any
    targets: Tensor

    def __post_init__(self) -> None:
        if isinstance(self.inputs, Mapping | list):
            object.__setattr__(self, "inputs", each(lambda x: x, as_batch((self.inputs, self.targets))[0]))
        counts: list[int] = []
        each(lambda x: counts.append(len(x) if x.ndim else 0), self.inputs)
        targets = len(self.targets) if self.targets.ndim else 0
        if {*counts} != {targets} or 0 in counts:
            shown = f"{' and '.join(map(str, counts))} inputs with {targets} targets"
            raise MinimandError(f"{shown}; expected as many of both, and some.")

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        order = _order(len(self), seed).to(self.targets.device)
        for b in range(first, self.count(size, seed is not None)):
            chosen = order[b * size : (b + 1) * size][share]
            yield self[chosen]

    def __getitem__(self, rows: Any) -> Batch:
        return each(lambda x: x[rows], self.inputs), self.targets[rows]

    def to(self, device: torch.device) -> "Arrays":
        return Arrays(each(lambda x: x.to(device), self.inputs), self.targets.to(device))


@dataclass(frozen=True)
class NoSamples(Samples):
    """The test part of data that have none."""

    def __len__(self) -> int:
        return 0

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        return iter(())


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
        return map(as_batch, iter(DataLoader(batches, batch_size=None, sampler=numbers, num_workers=self.workers)))


@dataclass(frozen=True)
class Stream(Samples):
    """Samples of a data set that can only be iterated, again each time, in its own order; entered later by skipping."""

    dataset: Any

    def __post_init__(self) -> None:
        _check_rereadable(self.dataset)

    def __len__(self) -> int:
        length = length_of(self.dataset)
        return self.counted if length is None else length

    @cached_property
    def counted(self) -> int:
        """The number of samples, counted once by reading them."""
        return _count(1 for _ in self.dataset)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        if seed is not None:
            seed_everything(seed)
        samples = iter(self.dataset)
        for _ in islice(samples, first * size):
            pass
        rows = iter(lambda: list(islice(samples, size)), [])
        batches = (as_batch(default_collate(batch[share])) for batch in rows)
        return _whole(batches, range(first, self.count(size, seed is not None)), self.dataset)


@dataclass(frozen=True)
class Loader(Samples):
    """Batches that somebody else's loader makes; entered later by skipping."""

    loader: Any

    def __post_init__(self) -> None:
        _check_rereadable(self.loader)
        if self.length == 0:
            raise MinimandError(f"{type(self.loader).__name__} is empty; expected a loader of at least one batch.")

    @cached_property
    def length(self) -> int:
        """The number of batches, counted once by a pass over them where the loader does not say."""
        length = length_of(self.loader)
        return self.counted[1] if length is None else length

    def __len__(self) -> int:
        length = length_of(getattr(self.loader, "dataset", None))
        return self.counted[0] if length is None else length

    @cached_property
    def counted(self) -> tuple[int, int, tuple[int, int]]:
        """The number of samples and of batches and the range of the classes, counted once by a pass over all."""
        ranges: list[tuple[int, int]] = []

        def sizes() -> Iterator[int]:
            for batch in self.loader:
                _, targets = as_batch(batch)
                ranges.append(class_range(targets))
                yield len(targets)

        samples = _count(sizes())
        lows, highs = zip(*ranges, strict=True) if ranges else ((0,), (0,))
        return samples, len(ranges), (min(lows), max(highs))

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        if seed is not None:
            seed_everything(seed)
            for generator in _generators_of(self.loader):
                generator.manual_seed(seed)
        iterator = iter(self.loader)
        for _ in islice(iterator, first):  # now, not when the first batch is asked for: skipping draws random numbers
            pass
        batches = map(as_batch, iterator)
        if seed is not None:  # an epoch of training has as many steps as were counted on
            batches = _whole(batches, range(first, self.length), self.loader)
        return batches if share == WHOLE else ((each(lambda x: x[share], x), y[share]) for x, y in batches)

    def count(self, size: int, shuffled: bool) -> int:
        return self.length


def _generators_of(loader: Any) -> list[torch.Generator]:
    """The generators of a loader's own, which decide the order of its samples."""
    own = [getattr(owner, "generator", None) for owner in (loader, getattr(loader, "sampler", None))]
    return [generator for generator in own if isinstance(generator, torch.Generator)]


@contextmanager
def generators_kept(*sources: Any) -> Iterator[None]:
    """Put the generators of loaders, or of samples that have a loader, back at the end, also after an error."""
    generators = [g for source in sources for g in _generators_of(getattr(source, "loader", source))]
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def length_of(source: Any) -> int | None:
    """The length of something; None if it does not say, as a loader of a data set that can only be iterated."""
    try:
        return len(source)
    except TypeError:
        return None


def class_range(targets: Tensor) -> tuple[int, int]:
    """The lowest and the highest class among targets, but for places without a class; (0, 0) of a regression."""
    if targets.is_floating_point():
        return 0, 0
    classes = targets[targets != NO_CLASS] if targets.ndim > 1 else targets
    return (0, 0) if classes.numel() == 0 else (int(classes.min()), int(classes.max()))


def _whole(batches: Iterator[Batch], numbers: range, source: Any) -> Iterator[Batch]:
    """As many batches as there are numbers; raises MinimandError where a source ends before its length says so."""
    for number in numbers:
        if (batch := next(batches, None)) is None:
            raise MinimandError(
                f"{type(source).__name__} ended after {number} batches, and by its length it has {numbers.stop}; "
                "expected a __len__ that is right, or none."
            )
        yield batch


def _check_rereadable(source: Any) -> None:
    if isinstance(source, Iterator):
        raise WrongTypeError(
            f"{type(source).__name__} can be read only once, and training reads in each epoch; expected a data set, a "
            "list of batches or a loader, whose every iter() begins anew."
        )


def _count(sizes: Iterable[int]) -> int:
    samples = 0
    for size in sizes:
        samples += size
        if samples > _COUNTED:
            raise MinimandError(
                f"after {_COUNTED:,} samples the data set has not ended; expected one with an end, or with a __len__ "
                "that says how many make an epoch."
            )
    return samples


class _BatchReader(Dataset):
    """Batch b of a data set in a given order, random transforms included, whoever reads it and when."""

    def __init__(self, dataset: Any, size: int, order: Tensor, seed: int | None, share: slice) -> None:
        self.dataset, self.size, self.order, self.seed, self.share = dataset, size, order, seed, share

    def __getitem__(self, b: int) -> Any:
        chosen = self.order[b * self.size : (b + 1) * self.size][self.share].tolist()
        with torch.random.fork_rng(devices=[]):
            seed_everything((derived_seed(self.seed or 0, b) + (self.share.start or 0) * 1_000_000_007) % 2**63)
            return default_collate([self.dataset[i] for i in chosen])


def _order(n: int, seed: int | None) -> Tensor:
    return torch.arange(n) if seed is None else torch.randperm(n, generator=torch.Generator().manual_seed(seed))
