"""Data from the splits of the library `datasets`, in memory where they fit."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from ..._support.extras import require
from ...recipes.augmentation import Augmentation
from ..data import Data, channel_statistics
from ..samples import Arrays, Items, Samples
from .pixels import is_grey, open_image, pixels_of, random_part, scaled

if TYPE_CHECKING:
    import datasets

TEST_NAMES = ("test", "validation", "val")
"""Names of splits and folders that hold test samples, the first choice first."""
CROP_AND_FLIP = Augmentation(pad=4, flip=True)
"""What training does to photographs unless a data set or a recipe says otherwise."""
_BYTES_IN_MEMORY = 4 * 2**30
_SIZE_IF_THEY_DIFFER = 224
# What models trained on ImageNet expect, for images that are too many to be measured first.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def datasets_library() -> Any:
    """The library `datasets`, without its progress bars; raises MissingPackageError that names the extra."""
    datasets = require("datasets", "data", "to read images")
    require("PIL.Image", "data", "to read images")
    datasets.disable_progress_bars()
    return datasets


def from_splits(
    splits: "datasets.DatasetDict",
    name: str,
    source: str,
    augmentation: Augmentation,
    image_size: int | None,
    colour: bool = False,
) -> Data:
    """Data of an image and a label column; without a test split, a fixed fifth of the samples is set aside.

    Args:
        splits: what `datasets.load_dataset` gives.
        name: the name of the data.
        source: where the samples were read, in words.
        augmentation: what training does to the images.
        image_size: the side in pixels that images are scaled and cropped to; None for the size they have.
        colour: read grey images as colour too.

    Raises:
        MinimandError: no such columns, or an image that cannot be read.
    """
    if image_size is not None:
        check_number("image_size", image_size, 1, math.inf, whole=True)
    train, test = _train_and_test(splits, name)
    image, label = _columns(train, name)
    names = getattr(train.features[label], "names", None)
    classes = names or [str(i) for i in range(int(max(train[label])) + 1)]
    train, test = train.cast_column(image, _undecoded()), test.cast_column(image, _undecoded())
    first = open_image(train[0][image], "the first image")
    mode = "L" if is_grey(first) and not colour else "RGB"
    channels = 1 if mode == "L" else 3
    height, width = (image_size, image_size) if image_size else (first.height, first.width)
    samples: tuple[Samples, Samples]
    if (len(train) + len(test)) * channels * height * width <= _BYTES_IN_MEMORY:
        try:
            arrays = [_read(part, image, label, mode, (height, width), bool(image_size)) for part in (train, test)]
        except _SizesDiffer:
            return from_splits(splits, name, source, augmentation, _SIZE_IF_THEY_DIFFER, colour)
        except _SomeHaveColour:
            return from_splits(splits, name, source, augmentation, image_size, colour=True)
        mean, std = channel_statistics(arrays[0].inputs)
        samples = arrays[0], arrays[1]
    else:
        height = width = image_size or _SIZE_IF_THEY_DIFFER
        mean, std = _IMAGENET
        size = (height, width)
        mode, channels = "RGB", 3  # one of the images not looked at may have colour
        cropped = _Images(train, image, label, mode, size, random=True)
        samples = Items(cropped), Items(_Images(test, image, label, mode, size))
        augmentation = replace(augmentation, pad=0)  # the images are cropped at random already
    return Data(
        name,
        *samples,
        (channels, height, width),
        classes=tuple(classes),
        mean=mean[:channels],
        std=std[:channels],
        augmentation=augmentation,
        source=source,
    )


def _train_and_test(splits: "datasets.DatasetDict", name: str) -> "tuple[datasets.Dataset, datasets.Dataset]":
    train = splits["train"] if "train" in splits else splits[next(iter(splits))]
    tests = [splits[key] for key in TEST_NAMES if key in splits]
    return (train, tests[0]) if tests else _fifth_aside(train, _columns(train, name)[1])


def _columns(split: "datasets.Dataset", name: str) -> tuple[str, str]:
    """The names of the image and of the label column."""
    import datasets

    images = [key for key, feature in split.features.items() if isinstance(feature, datasets.Image)]
    labels = [key for key, feature in split.features.items() if isinstance(feature, datasets.ClassLabel)]
    labels += [key for key in split.features if key in ("label", "labels") and key not in labels]
    preferred = [key for key in labels if key in ("label", "fine_label")]
    if not images or not labels:
        raise MinimandError(
            f"{name} has the columns {', '.join(split.features)}; expected an image and a label column."
        )
    return images[0], (preferred or labels)[0]


class _SizesDiffer(Exception):
    """Images of several sizes, where the size was to be theirs."""


class _SomeHaveColour(Exception):
    """An image with colour, where all were to be grey."""


def _fifth_aside(split: "datasets.Dataset", label: str) -> "tuple[datasets.Dataset, datasets.Dataset]":
    """Four fifths of the samples and a fifth, of each class where every one has enough."""
    import datasets

    counts = np.unique(split[label][:], return_counts=True)[1]
    even = isinstance(split.features[label], datasets.ClassLabel) and counts.min() > 1 and len(split) >= 5 * len(counts)
    parts = split.train_test_split(test_size=0.2, seed=0, stratify_by_column=label if even else None)
    return parts["train"], parts["test"]


class _Images(Dataset):
    """Images of a column, decoded when they are asked for: the centre of each, or a part that torch draws."""

    def __init__(
        self,
        split: "datasets.Dataset",
        image: str,
        label: str,
        mode: str,
        size: tuple[int, int],
        random: bool = False,
    ) -> None:
        self.split, self.image, self.label, self.mode, self.size = split, image, label, mode, size
        self.crop = random_part if random else scaled

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        row = self.split[i]
        return pixels_of(self.crop(open_image(row[self.image], f"image {i}"), self.size), self.mode), row[self.label]


def _read(split: "datasets.Dataset", image: str, label: str, mode: str, size: tuple[int, int], scale: bool) -> Arrays:
    images = []
    for i, cell in enumerate(split[image]):
        picture = open_image(cell, f"image {i}")
        if mode == "L" and not is_grey(picture):
            raise _SomeHaveColour
        if scale:
            picture = scaled(picture, size)
        elif (picture.height, picture.width) != size:
            raise _SizesDiffer
        images.append(pixels_of(picture, mode))
    return Arrays(torch.stack(images), torch.tensor(split[label][:]))


def _undecoded() -> Any:
    import datasets

    return datasets.Image(decode=False)
