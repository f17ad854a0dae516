"""A cache of the activations of frozen layers, so that what stands below a block runs once and not at every step."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ...._support.errors import MinimandError
from ...._support.torch.internals import tree_flatten, tree_leaves
from ...._support.torch.seeds import derived_seed, seed_everything
from ....data.data import Data, PreparedSamples
from ....data.samples import WHOLE, Batch, Loader, Stream
from ....recipes.recipe import Recipe
from ...distributed.world import World
from ...loop.state_batch import StateBatch

if TYPE_CHECKING:
    from ...loop.training import Training

Place = Literal["memory", "disk"]
StoredPrecision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[StoredPrecision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Step = Callable[[Any], Any]
"""A function from a batch to the first cached state, or from one state to the next."""

# Samples at a time when states are made.
_BATCH = 256
_PREFIX = "activations-"


class Activations:
    """Samples whose inputs are states, of leaves (views x samples, ...) on the CPU; a batch has one view of each."""

    is_prepared = True

    def __init__(
        self, leaves: Sequence[Tensor], spec: Any, targets: Tensor, views: int, device: torch.device | str = "cpu"
    ) -> None:
        self.leaves, self.spec, self.targets, self.views = leaves, spec, targets, views
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Any]:
        """Batches of states with their targets, shuffled by a seed; of each the rows of a share."""
        n = len(self)
        order, offset = torch.arange(n), torch.zeros(n, dtype=torch.long)
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(n, generator=generator)
            offset = n * torch.randint(self.views, (n,), generator=generator)
        for b in range(first, self.count(size, seed is not None)):
            chosen = order[b * size : (b + 1) * size][share]
            rows = chosen + offset[b * size : (b + 1) * size][share]
            yield self._batch(rows), self.targets[chosen].to(self.device)

    def in_order(self, size: int) -> Iterator[StateBatch]:
        """All views of all samples, one after another, in batches of a size."""
        for start in range(0, self.views * len(self), size):
            yield self._batch(slice(start, start + size))

    def _batch(self, rows: Any) -> StateBatch:
        """States on the device, in single precision where they are floating-point numbers."""
        leaves = [leaf[rows] for leaf in self.leaves]
        return StateBatch([leaf.to(self.device, stored_dtype(leaf, torch.float32)) for leaf in leaves], self.spec)

    def count(self, size: int, shuffled: bool) -> int:
        """The number of batches; shuffled ones leave an incomplete last batch out."""
        return max(len(self) // size, 1) if shuffled else -(-len(self) // size)

    def to(self, device: torch.device) -> "Activations":
        """Make batches on another device from now on."""
        return Activations(self.leaves, self.spec, self.targets, self.views, device)


@dataclass(frozen=True)
class Source:
    """The samples that a cache is made of, as a network sees them; `batches` gives those of a view, in order."""

    samples: int
    views: int
    batches: Callable[[int], Iterator[Batch]]


class Cache:
    """A cache, from problem `first` on, of the states below the block that is trained, made from those below it."""

    def __init__(
        self, steps: Sequence[Step], batch: Any, place: Place, dtype: torch.dtype, views: int, first: int = 1
    ) -> None:
        self.steps, self.place, self.dtype, self.views = steps, place, dtype, views
        self.sizes: list[int] = []
        """The size of each state, in bytes a sample."""
        state = batch
        with torch.no_grad():
            for step in steps:
                state = step(state)
                self.sizes.append(sum(t[:1].numel() * stored_dtype(t, dtype).itemsize for t in tree_leaves(state)))
        self.first = first
        self.position = 0
        """The number of steps that the stored states have taken."""
        self.stored: list[Activations] = []
        self.near: Path | None = None
        self.files = ExitStack()

    def check(
        self,
        train: int,
        test: int,
        near: Path | None,
        name: str = "Layerwise.cache",
        others: str = "'off', fewer views or a lower precision",
    ) -> None:
        """Raise MinimandError unless there is room for a number of samples, in files near a folder; says what works."""
        for leftover in near.glob(f"{_PREFIX}*") if near else ():  # by a process that was killed in this run
            shutil.rmtree(leftover)
        self.near = near
        each = [size * (train * self.views + test) for size in self.sizes]
        needed = max(below + above for below, above in zip([0, *each], each, strict=False))
        free = shutil.disk_usage(self.near or tempfile.gettempdir()).free if self.place == "disk" else free_memory()
        if needed > free:
            other = "'disk'" if self.place == "memory" else "'memory'"
            raise MinimandError(
                f"{name} is {self.place!r} and needs {needed / 1e9:.3g} GB, of which {free / 1e9:.3g} GB are "
                f"free; expected {other}, {others}."
            )

    def feed(self, number: int, sources: Sequence[Source], device: torch.device) -> list[Activations]:
        """The states that problem `number` is trained on, for each source; their batches are on a device."""
        target = number - self.first + 1
        if not self.stored or self.position != target - 1:
            self.close()
        while self.position < target:
            step, below, files_below = self.steps[self.position], self.stored or [None] * len(sources), self.files
            self.files, folder = ExitStack(), None
            if self.place == "disk":
                folder = Path(self.files.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self.near)))
            self.stored = [
                self._above(step, source, states, device, folder and folder / str(i))
                for i, (source, states) in enumerate(zip(sources, below, strict=True))
            ]
            del below
            files_below.close()
            self.position += 1
        return self.stored

    def close(self) -> None:
        """Delete all stored states, in memory and on disk."""
        self.position, self.stored = 0, []
        self.files.close()

    def _above(
        self, step: Step, source: Source, below: Activations | None, device: torch.device, file: Path | None
    ) -> Activations:
        targets: list[Tensor] = []

        def read() -> Iterator[Any]:
            if below is not None:
                yield from (batch.state for batch in below.in_order(_BATCH))
                return
            for view in range(source.views):
                for x, y in source.batches(view):
                    if view == 0:
                        targets.append(y.cpu())
                    yield x

        leaves: list[Tensor] = []
        spec, filled = None, 0
        for x in read():
            tensors, spec = tree_flatten(step(x))
            if not leaves:
                for i, t in enumerate(tensors):
                    shape = (source.views * source.samples, *t.shape[1:])
                    leaves.append(_empty(shape, stored_dtype(t, self.dtype), file and Path(f"{file}-{i}")))
            for leaf, t in zip(leaves, tensors, strict=True):
                leaf[filled : filled + len(t)] = t.to("cpu", leaf.dtype)
            filled += len(tensors[0])
        all_targets = below.targets if below is not None else torch.cat(targets) if targets else torch.empty(0)
        return Activations(leaves, spec, all_targets, source.views, device)


def stored_dtype(t: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The type that a tensor is stored in: another one for floating-point numbers, its own for others."""
    return dtype if t.is_floating_point() else t.dtype


def free_memory(device: torch.device | None = None) -> float:
    """The free memory in bytes, of a GPU or of the machine; infinite where the system does not say."""
    if device is not None and device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), math.inf)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, file: Path | None) -> Tensor:
    if file is None:
        return torch.empty(shape, dtype=dtype)
    return torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=dtype).view(shape)


def sources(training: "Training", views: int) -> list[Source]:
    """Training samples in each view, augmented if there are several, and test samples as they are."""
    data, recipe = training.data, training.recipe
    augmentation = recipe.augmentation or data.augmentation if views > 1 else None
    train = PreparedSamples(data, data.train.to(training.device), training.device, augmentation)

    def batches(samples: PreparedSamples, view: int) -> Iterator[Batch]:
        seed_everything(derived_seed(training.seed, -2 - view))
        yield from replace(samples, seed=training.seed, epoch=lambda: view).batches(_BATCH)

    samples_and_views = ((train, views), (training.test_samples, 1))
    return [Source(len(samples), count, partial(batches, samples)) for samples, count in samples_and_views]


def check_cached(data: Data, recipe: Recipe, world: World) -> None:
    """Raise MinimandError for data or a recipe whose activations cannot be cached."""
    if world.batch_shares > 1:
        raise MinimandError(
            f"activations cannot be kept by {world.batch_shares} processes, each of which would need those of all "
            "samples; expected cache='off', or one process."
        )
    if recipe.mixup or recipe.cutmix:
        raise MinimandError("activations are kept of single samples, and the recipe mixes them; expected cache='off'.")
    if isinstance(data.train, Loader | Stream) or isinstance(data.test, Loader | Stream):
        raise MinimandError("activations of a loader cannot be kept; expected cache='off', tensors or a data set.")
