"""Images of the Hugging Face hub, through the library `datasets` (extra `data`), which alone asks the network."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._support.errors import MinimandError
from .._support.extras import require
from ..recipes.augmentation import Augmentation
from .data import Data
from .files.images import CROP_AND_FLIP, Undecoded, data_of_images
from .files.labels import as_targets, label_column
from .files.parquet import read_inside
from .files.splitting import as_parts


def splits_of_hub(repository: str, elsewhere: str) -> tuple[Any, Any]:
    """The library `datasets`, and the splits of a data set of the hub; `elsewhere` is what there is without a network.

    Raises:
        MinimandError: the data set cannot be loaded, or the library is not installed.
    """
    datasets = require("datasets", "data", "to read data sets of the hub")
    datasets.disable_progress_bars()
    try:
        return datasets, datasets.load_dataset(repository)
    except Exception as error:  # the library raises errors of its own, of httpx and of the file system
        line = str(error).partition("\n")[0]
        raise MinimandError(
            f"cannot load {repository!r} from the hub ({type(error).__name__}: {line}). Without a network, name "
            f"{elsewhere}."
        ) from error


def hub(
    repository: str, name: str = "", augmentation: Augmentation = CROP_AND_FLIP, image_size: int | None = None
) -> Data:
    """A data set of the Hugging Face hub with an image and a label column."""
    datasets, splits = splits_of_hub(repository, "a folder that holds the data")
    names = as_parts(splits)
    if "train" not in names:
        names = {"train": next(iter(splits))}
    first = splits[names["train"]]
    images = [key for key, feature in first.features.items() if isinstance(feature, datasets.Image)]
    if not images:
        raise MinimandError(f"{repository} has the columns {', '.join(first.features)}; expected one of images.")
    likely = [key for key, feature in first.features.items() if isinstance(feature, datasets.ClassLabel)]
    label = label_column(list(first.features), None, [images[0]], repository, likely)
    rows = {
        part: HubImages(splits[split].cast_column(images[0], datasets.Image(decode=False)), images[0], f"{split} row")
        for part, split in names.items()
    }
    labels = {part: list(splits[split][label]) for part, split in names.items()}
    where = {part: images.where for part, images in rows.items()}
    targets, classes, notes = as_targets(labels, where, getattr(first.features[label], "names", None) or ())
    rows = {part: replace(images, labels=targets[part]) for part, images in rows.items()}
    if unused := sorted({*splits} - {*names.values()}):
        notes += (f"left out, as neither train, test nor val: {', '.join(unused)}.",)
    source = f"the hub ({repository})"
    return data_of_images(rows, classes, name or repository, source, augmentation, image_size, notes)


@dataclass(frozen=True)
class HubImages(Undecoded):
    """Images in a column of a split that `datasets` keeps on disk."""

    split: Any
    column: str
    place: str
    labels: Tensor = field(default_factory=lambda: torch.zeros(0))

    def content(self, i: int) -> bytes:
        from datasets import config

        cell = self.split[i][self.column]
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise MinimandError(f"{self.where(i)}: the image is missing; expected one in every row.")
        if cell["bytes"] is not None:
            return cell["bytes"]
        return read_inside(Path(config.HF_CACHE_HOME), cell["path"], self.where(i))

    def where(self, i: int) -> str:
        return f"{self.place} {i + 1}"
