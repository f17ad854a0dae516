"""The activations of frozen layers, kept so that what stands below a block runs once and not at every step."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ...._support.errors import MinimandError
from ....data.data import Data
from ....data.samples import WHOLE, Batch

Place = Literal["memory", "disk"]
Precision = Literal["float32", "bfloat16", "float16"]

# Samples at a time when states are made.
_BATCH = 256
_PREFIX = "activations-"


@dataclass(frozen=True)
class State:
    """A batch of states of a network, in the place of inputs."""

    leaves: list[Tensor]
    spec: Any

    def to(self, device: torch.device) -> "State":
        """The same on a device, in single precision where it is of floating-point numbers."""
        return State([leaf.to(device, as_kept(leaf, torch.float32)) for leaf in self.leaves], self.spec)

    def __len__(self) -> int:
        return len(self.leaves[0])

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.leaves[0].device

    @property
    def value(self) -> Any:
        """The state as the layers know it."""
        return tree_unflatten(self.leaves, self.spec)


def prepared(data: Data, x: Tensor | State) -> Any:
    """What a model sees of a batch; states are as it left them."""
    return x if isinstance(x, State) else data.prepare(x)


class Activations:
    """Samples whose inputs are states: of each sample `views`, of which a batch has one at random."""

    def __init__(self, leaves: Sequence[Tensor], spec: Any, targets: Tensor, views: int) -> None:
        self.leaves, self.spec, self.targets, self.views = leaves, spec, targets, views

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Any]:
        """As `Samples` has it."""
        n = len(self)
        order, offset = torch.arange(n), torch.zeros(n, dtype=torch.long)
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(n, generator=generator)
            offset = n * torch.randint(self.views, (n,), generator=generator)
        for b in range(first, self.count(size, seed is not None)):
            chosen = order[b * size : (b + 1) * size][share]
            rows = chosen + offset[b * size : (b + 1) * size][share]
            yield State([leaf[rows] for leaf in self.leaves], self.spec), self.targets[chosen]

    def in_order(self, size: int) -> Iterator[State]:
        """All views of all samples, one after another."""
        for start in range(0, self.views * len(self), size):
            yield State([leaf[start : start + size] for leaf in self.leaves], self.spec)

    def count(self, size: int, shuffled: bool) -> int:
        """As `Samples` has it."""
        return max(len(self) // size, 1) if shuffled else -(-len(self) // size)

    def to(self, device: torch.device) -> "Activations":
        """Itself: batches go to the device one by one."""
        return self


@dataclass(frozen=True)
class Source:
    """Samples as a network sees them."""

    samples: int
    views: int
    batches: Callable[[int], Iterator[Batch]]
    """Of a view, in order."""


class Cache:
    """Keeps the states below the block that is trained; they are made from those below the block before."""

    def __init__(
        self,
        steps: Sequence[Callable[[Any], Any]],
        example: Any,
        place: Place,
        dtype: torch.dtype,
        views: int,
        first: int = 1,
    ) -> None:
        """`steps` lead from a batch, such as the example, to the first kept state, and on from state to state.

        The first is what problem `first` is trained on, counted from 0.
        """
        self.steps, self.place, self.dtype, self.views = steps, place, dtype, views
        self.sizes: list[int] = []
        """Of each state, in bytes a sample."""
        with torch.no_grad():
            for step in steps:
                example = step(example)
                self.sizes.append(sum(t[:1].numel() * as_kept(t, dtype).itemsize for t in tree_leaves(example)))
        self.first = first
        self.at = 0
        self.kept: list[Activations] = []
        self.near: Path | None = None
        self.folders: list[tempfile.TemporaryDirectory] = []

    def check(
        self,
        train: int,
        test: int,
        near: Path | None,
        name: str = "Layerwise.cache",
        others: str = "'off', fewer views or a lower precision",
    ) -> None:
        """See that there is room for so many samples, in files near a folder, before anything begins.

        Raises:
            ValueError: there is not; says so of `name`, and what `others` would work.
        """
        for left in near.glob(f"{_PREFIX}*") if near else ():  # by a process that was killed in this run
            shutil.rmtree(left)
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
        """What problem `number`, at least the first that is fed, is trained on; of each source."""
        wanted = number - self.first + 1
        if not self.kept or self.at != wanted - 1:
            self.close()
        while self.at < wanted:
            step = self.steps[self.at]
            below = self.kept or [None] * len(sources)
            folder = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self.near) if self.place == "disk" else None
            self.kept = [
                self._above(step, source, kept, device, folder and Path(folder.name, str(i)))
                for i, (source, kept) in enumerate(zip(sources, below, strict=True))
            ]
            del below
            self._delete()
            self.folders += [folder] if folder else []
            self.at += 1
        return self.kept

    def close(self) -> None:
        """Forget what is kept."""
        self.at, self.kept = 0, []
        self._delete()

    def _delete(self) -> None:
        for folder in self.folders:
            folder.cleanup()
        self.folders = []

    def _above(
        self,
        step: Callable[[Any], Any],
        source: Source,
        below: Activations | None,
        device: torch.device,
        file: Path | None,
    ) -> Activations:
        targets: list[Tensor] = []

        def read() -> Iterator[Any]:
            if below is not None:
                yield from (state.to(device).value for state in below.in_order(_BATCH))
                return
            for view in range(source.views):
                for x, y in source.batches(view):
                    targets.extend([y.cpu()] if view == 0 else [])
                    yield x

        leaves: list[Tensor] = []
        spec, filled = None, 0
        for x in read():
            found, spec = tree_flatten(step(x))
            if not leaves:
                shapes = [(source.views * source.samples, *t.shape[1:]) for t in found]
                leaves = [
                    _empty(shape, as_kept(t, self.dtype), file and Path(f"{file}-{i}"))
                    for i, (shape, t) in enumerate(zip(shapes, found, strict=True))
                ]
            for leaf, t in zip(leaves, found, strict=True):
                leaf[filled : filled + len(t)] = t.to("cpu", leaf.dtype)
            filled += len(found[0])
        return Activations(leaves, spec, torch.cat(targets) if below is None else below.targets, source.views)


def as_kept(t: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The type that a tensor is kept in: another one of floating-point numbers, its own of others."""
    return dtype if t.is_floating_point() else t.dtype


def free_memory(device: torch.device | None = None) -> float:
    """In bytes, of a GPU or of the machine; infinite where the system does not say."""
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
