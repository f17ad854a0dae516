"""Training and test samples with what a person and a model need to know about them."""

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augmentation import Augmentation
from .samples import Arrays, Items, Loader, Samples

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Data:
    """Named training and test samples.

    Inputs are images (C, H, W), as bytes or as floats from 0 to 1, or vectors (d,). Targets are classes from 0, or
    vectors (outputs,) for a regression.
    """

    name: str
    train: Samples
    test: Samples
    shape: tuple[int, ...]
    task: Task = "classification"
    classes: tuple[str, ...] = ()
    outputs: int = 1
    """The length of a target of a regression."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    """Per channel, on the scale from 0 to 1; the models see inputs less the mean, over the deviation."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """What training does to images unless a recipe says otherwise."""
    references: tuple[str, ...] = ()
    """Keys into references.bib."""
    source: str = ""
    """Where the samples were read."""
    loaded: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of `load_data` that give them again; none for samples that a caller gave."""

    @property
    def num_outputs(self) -> int:
        """The length of a model's output."""
        return len(self.classes) if self.task == "classification" else self.outputs

    def prepare(self, inputs: Tensor) -> Tensor:
        """What a model sees: floats, normalized; images in channels-last layout. (N, ...) to (N, ...)."""
        inputs = inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs.float()
        shape = (1, -1) + (1,) * (inputs.ndim - 2)
        mean = torch.tensor(self.mean, device=inputs.device).view(shape)
        std = torch.tensor(self.std, device=inputs.device).view(shape)
        inputs = (inputs - mean) / std
        return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs

    def __str__(self) -> str:
        what = f"{len(self.classes)} classes" if self.task == "classification" else f"regression to {self.outputs}"
        shape = " x ".join(map(str, self.shape))
        return f"{self.name}: {len(self.train)} + {len(self.test)} samples of {shape}, {what}, from {self.source}"


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, C, H, W) bytes, on the scale from 0 to 1."""
    n = images.numel() // images.shape[1]
    mean, std = [], []
    for c in range(images.shape[1]):
        counts = torch.bincount(images[:, c].flatten(), minlength=256).double()
        values = torch.arange(256, dtype=torch.double) / 255
        m = float(counts @ values) / n
        mean.append(m)
        std.append(max(float(counts @ (values - m) ** 2) / n, 1e-12) ** 0.5)
    return tuple(mean), tuple(std)


def as_data(value: Any) -> Data:
    """The data that `value` stands for.

    Args:
        value: a `Data`, a name (see `load_data`), or a pair (train, test), each (inputs, targets) as tensors, a
            data set of (input, target) pairs, or a loader of batches.
    """
    if isinstance(value, Data):
        return value
    if isinstance(value, str):
        from .registry import load_data

        return load_data(value)
    if not (isinstance(value, tuple | list) and len(value) == 2):
        raise TypeError(f"data is {type(value).__name__}; expected a name, an mm.Data, or a pair (train, test).")
    train, test = (_as_samples(part, which) for part, which in zip(value, ("train", "test"), strict=True))
    inputs, targets = next(train.batches(256))
    if targets.is_floating_point():
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        return Data("given", train, test, tuple(inputs.shape[1:]), "regression", outputs=outputs, source="the caller")
    number = _highest_class(train) + 1
    classes = tuple(str(i) for i in range(number))
    return Data("given", train, test, tuple(inputs.shape[1:]), classes=classes, source="the caller")


def _as_samples(part: Any, which: str) -> Samples:
    if isinstance(part, tuple | list) and len(part) == 2 and all(isinstance(t, Tensor) for t in part):
        return Arrays(*part)
    if isinstance(part, Arrays | Items | Loader):
        return part
    if isinstance(part, Dataset) and isinstance(part, Sized):
        return Items(part, workers=0)
    if isinstance(part, Iterable) and not isinstance(part, Tensor | str):
        return Loader(part)
    raise TypeError(
        f"{which} is {type(part).__name__}; expected a pair of tensors (inputs, targets), a data set or a loader."
    )


def _highest_class(samples: Samples) -> int:
    if isinstance(samples, Arrays):
        return int(samples.targets.max())
    known = getattr(getattr(samples, "dataset", None), "classes", None)
    if known is not None:
        return len(known) - 1
    return max(int(targets.max()) for _, targets in samples.batches(256))
