"""What a study measures with: data, a device, a place for its runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..data import Arrays, Data, load_data
from ..training.events import Callback


@dataclass(frozen=True)
class Bench:
    """Handed to each measurement."""

    runs: Path
    """The folder of trainings, which can be gone on with."""
    data_folder: str | None
    """Where the files of named data are."""
    device: torch.device
    callbacks: Callable[[str], Sequence[Callback]]
    """Makes the callbacks of a training from its label."""

    @cached_property
    def _loaded(self) -> dict[str, Data]:
        return {}

    def data(self, name: str, train: int | None = None, test: int | None = None) -> Data:
        """Named data, read once; or its first `train` training and `test` test samples.

        "imagenet" are the images of 224 pixels in `data_folder`.

        Raises:
            ValueError: no folder for ImageNet.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        data = self._loaded[name]
        return replace(data, train=_first(data.train, train), test=_first(data.test, test))

    def _load(self, name: str) -> Data:
        if name == "imagenet":
            if self.data_folder is None:
                raise ValueError("this study needs ImageNet; name its folder of train/ and val/ images as data_folder.")
            return load_data(self.data_folder, image_size=224)
        return load_data(name, **({"folder": self.data_folder} if self.data_folder and name != "digits" else {}))


def _first(samples: Any, count: int | None) -> Any:
    return samples if count is None else Arrays(samples.inputs[:count], samples.targets[:count])
