"""Training and test samples with what a person and a model need to know about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from .._support.errors import MinimandError
from ..recipes.augmentation import Augmentation
from .prepared import as_prepared
from .samples import Samples

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
        mean, std = _constants(self.mean, self.std, inputs.ndim, inputs.device)
        inputs = (inputs - mean) / std
        return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs

    def example(self, device: torch.device | str = "cpu", count: int = 4) -> Any:
        """The example batch: the first `count` test samples, as a model on a device sees them."""
        x, _ = next(iter(as_prepared(self, self.test, torch.device(device)).batches(count)))
        return x

    def check_classes(self, targets: Tensor) -> None:
        """Raise ValueError unless the targets (N,) are classes of this data."""
        low, high = map(int, targets.aminmax())
        if low < 0 or high >= len(self.classes):
            wrong = low if low < 0 else high
            raise MinimandError(
                f"{self.name} has a sample of class {wrong}; expected 0 to {len(self.classes) - 1}. The classes are "
                "counted from 0, and the training samples have to show the highest."
            )

    def check_outputs(self, outputs: Tensor, n: int) -> None:
        """Raise ValueError unless a model's outputs for n samples have the shape that the task needs."""
        expected = (n, self.num_outputs)
        if tuple(outputs.shape) != expected and not (expected == (n, 1) and tuple(outputs.shape) == (n,)):
            what = f"{len(self.classes)} classes" if self.task == "classification" else f"targets of {self.outputs}"
            raise MinimandError(
                f"the model's outputs for {n} samples have the shape {tuple(outputs.shape)}; {self.name} has {what}: "
                f"expected {expected}."
            )

    def __str__(self) -> str:
        what = f"{len(self.classes)} classes" if self.task == "classification" else f"regression to {self.outputs}"
        shape = " x ".join(map(str, self.shape))
        return f"{self.name}: {len(self.train)} + {len(self.test)} samples of {shape}, {what}, from {self.source}"


@lru_cache
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], ndim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    shape = (1, -1) + (1,) * (ndim - 2)
    with torch.inference_mode(False):  # kept for training, whoever asked first
        return torch.tensor(mean, device=device).view(shape), torch.tensor(std, device=device).view(shape)


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
