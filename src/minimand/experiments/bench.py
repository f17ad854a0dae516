"""The means by which a study measures: data, a device, a folder for its runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from .._support.errors import MinimandError
from ..data.data import Data
from ..data.registry import load_data
from ..data.samples import Arrays
from ..training.loop.events import Callback


@dataclass(frozen=True)
class Bench:
    """The means of a measurement: data, a device, callbacks, and a folder for runs."""

    runs: Path
    """The folder of the runs, from which interrupted trainings go on."""
    data_folder: str | None
    """The folder of the files of named data, or of ImageNet."""
    device: torch.device
    callbacks: Callable[[str], Sequence[Callback]]
    """A function that makes the callbacks of a training from its label."""

    _loaded: dict[str, Data] = field(default_factory=dict, repr=False)

    def data(self, name: str, train: int | None = None, test: int | None = None, enlarged: int = 1) -> Data:
        """The data of a name, which is read once; or its first `train` training and `test` test samples.

        "imagenet" are the images of 224 pixels in `data_folder`; CIFAR is in `data_folder` or in a folder of its name
        there. Small images can be enlarged by a whole factor, each pixel repeated.

        Raises:
            MinimandError: there is no folder for ImageNet.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        data = self._loaded[name]
        data = replace(data, train=_first(data.train, train), test=_first(data.test, test))
        return data if enlarged == 1 else _enlarge(data, enlarged)

    def data_of(self, cell: Mapping[str, Any]) -> Data:
        """The data that a cell names: its `data`, `train`, `test` and `enlarged` are the arguments of `data`."""
        return self.data(cell["data"], cell.get("train"), cell.get("test"), cell.get("enlarged", 1))

    def _load(self, name: str) -> Data:
        if name == "imagenet":
            if self.data_folder is None:
                raise MinimandError(
                    "data_folder is None, but this study needs ImageNet; expected its folder of train/ and val/ images "
                    "(--data-folder)."
                )
            return load_data(self.data_folder, image_size=224)
        if self.data_folder is None or name not in ("cifar10", "cifar100"):
            return load_data(name)
        subfolder = Path(self.data_folder) / name
        return load_data(name, data_folder=str(subfolder) if subfolder.is_dir() else self.data_folder)


def _first(samples: Any, count: int | None) -> Any:
    return samples if count is None else Arrays(samples.inputs[:count], samples.targets[:count])


def _enlarge(data: Data, factor: int) -> Data:
    def larger(samples: Any) -> Arrays:
        rows = samples.inputs.repeat_interleave(factor, 2)
        return Arrays(rows.repeat_interleave(factor, 3), samples.targets)

    channels, height, width = data.shape
    return replace(
        data, train=larger(data.train), test=larger(data.test), shape=(channels, factor * height, factor * width)
    )
