"""Images that somebody has not decoded yet, as data: in memory, or decoded when they are asked for."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from ...recipes.augmentation import Augmentation
from ..data import Data, channel_statistics
from ..samples import Arrays, Items, Samples
from .pictures import is_grey, open_picture, pixels_of, random_part, scaled, size_of
from .splitting import fifth_aside

CROP_AND_FLIP = Augmentation(pad=4, flip=True)
"""What training does to photographs unless a data set or a recipe says otherwise."""
_BYTES_IN_MEMORY = 4 * 2**30
_LARGEST_DEFAULT = 224
_LARGEST = 8192
_SURVEYED = 1000  # images whose sizes decide what all are scaled to
# What models trained on ImageNet expect, for images that are too many to be measured first.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Undecoded(Protocol):
    """Images as bytes of files, with their labels."""

    labels: Tensor
    """Classes (n,), or numbers for a regression."""

    def content(self, i: int) -> bytes:
        """The bytes of the file of image i."""
        ...

    def where(self, i: int) -> str:
        """Where image i is, for messages."""
        ...


@dataclass
class Chosen(Undecoded):
    """A part of other images, by their numbers."""

    images: Undecoded
    indices: Tensor

    def __post_init__(self) -> None:
        self.labels = self.images.labels[self.indices]

    def content(self, i: int) -> bytes:
        return self.images.content(int(self.indices[i]))

    def where(self, i: int) -> str:
        return self.images.where(int(self.indices[i]))


def with_test(parts: Mapping[str, Any], choose: Callable[[Any, Tensor], Any]) -> tuple[dict[str, Any], str]:
    """Parts with a test part, and how that came to be: validation samples, or a fifth of the training samples."""
    if "test" in parts:
        return dict(parts), ""
    if "validation" in parts:
        return {"train": parts["train"], "test": parts["validation"]}, " (the validation part to test)"
    train, test = fifth_aside(parts["train"].labels)
    return {
        "train": choose(parts["train"], train),
        "test": choose(parts["train"], test),
    }, " (a fifth set aside to test)"


def data_of_images(
    parts: Mapping[str, Undecoded],
    classes: tuple[str, ...],
    name: str,
    source: str,
    augmentation: Augmentation = CROP_AND_FLIP,
    image_size: int | None = None,
    notes: tuple[str, ...] = (),
) -> Data:
    """Data of images by part, "train" at least; without a test part, of a fixed fifth.

    Images are scaled and cropped to `image_size` pixels; by default to the size they have, or, where they differ, to
    the median of their shorter sides, at most 224. No classes make a regression.
    """
    if image_size is not None:
        check_number("image_size", image_size, 1, _LARGEST, whole=True)
    parts, aside = with_test(parts, Chosen)
    form, notes = _form(parts, image_size, notes)
    facts: dict[str, Any] = {"classes": classes, "source": source + aside, "task": "classification"}
    if not classes:
        facts["task"] = "regression"
    samples: dict[str, Samples] = {}
    while form.bytes_of(parts) <= _BYTES_IN_MEMORY:
        try:
            arrays = {part: _read(images, form) for part, images in parts.items()}
        except _SizesDiffer:
            form, notes = form.scaled_to_median(parts, notes)
        except _SomeHaveColour:
            form = replace(form, mode="RGB")
        else:
            samples.update(arrays)
            mean, std = channel_statistics(arrays["train"].inputs)
            break
    else:
        if not form.scale:
            form, notes = form.scaled_to_median(parts, notes)
        form = replace(form, mode="RGB")  # one of the images not looked at may have colour
        crops = {"train": random_part}
        samples.update({part: Items(_Images(images, form, crops.get(part, scaled))) for part, images in parts.items()})
        mean, std = _IMAGENET
        augmentation = replace(augmentation, pad=0)  # the images are cropped at random already
    shape = (form.channels, *form.size)
    facts |= {"mean": mean, "std": std, "augmentation": augmentation, "notes": notes}
    return Data(name, samples["train"], samples["test"], shape, validation=samples.get("validation"), **facts)


@dataclass(frozen=True)
class _Form:
    """What every image becomes: grey or colour, its size, and whether it is scaled to that."""

    mode: str
    size: tuple[int, int]
    scale: bool

    @property
    def channels(self) -> int:
        return 1 if self.mode == "L" else 3

    def bytes_of(self, parts: Mapping[str, Undecoded]) -> int:
        return sum(len(images.labels) for images in parts.values()) * self.channels * math.prod(self.size)

    def scaled_to_median(
        self, parts: Mapping[str, Undecoded], notes: tuple[str, ...]
    ) -> "tuple[_Form, tuple[str, ...]]":
        """The form of images whose sizes differ, and what is to be said of it."""
        images = parts["train"]
        step = -(-len(images.labels) // _SURVEYED)
        sizes = sorted(size_of(images.content(i)) for i in range(0, len(images.labels), step))
        shorter = [low for low, _ in sizes if low]
        side = min(shorter[len(shorter) // 2], _LARGEST_DEFAULT) if shorter else _LARGEST_DEFAULT
        sides = f"{min(shorter, default=0)} to {max((high for _, high in sizes), default=0)}"
        note = f"images have sides of {sides} pixels; they are scaled and cropped to {side} x {side} (image_size=...)."
        return replace(self, size=(side, side), scale=True), (*notes, note)


def _form(parts: Mapping[str, Undecoded], size: int | None, notes: tuple[str, ...]) -> tuple[_Form, tuple[str, ...]]:
    train = parts["train"]
    if len(train.labels) == 0:
        raise MinimandError("there are no training images; expected some.")
    first = open_picture(train.content(0), train.where(0))
    height, width = (size, size) if size else (first.height, first.width)
    return _Form("L" if is_grey(first) else "RGB", (height, width), size is not None), notes


class _SizesDiffer(Exception):
    """Images of several sizes, where the size was to be theirs."""


class _SomeHaveColour(Exception):
    """An image with colour, where all were to be grey."""


class _Images(Dataset):
    """Images in colour, decoded when they are asked for: the centre of each, or a part that torch draws."""

    def __init__(self, images: Undecoded, form: _Form, crop: Callable[..., Any]) -> None:
        self.images, self.form, self.crop = images, form, crop

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        picture = open_picture(self.images.content(i), self.images.where(i))
        return pixels_of(self.crop(picture, self.form.size), self.form.mode), self.images.labels[i]


def _read(images: Undecoded, form: _Form) -> Arrays:
    n = len(images.labels)
    inputs = torch.empty(n, form.channels, *form.size, dtype=torch.uint8)
    for i in range(n):
        picture = open_picture(images.content(i), images.where(i))
        if form.mode == "L" and not is_grey(picture):
            raise _SomeHaveColour
        if form.scale:
            picture = scaled(picture, form.size)
        elif (picture.height, picture.width) != form.size:
            raise _SizesDiffer
        inputs[i] = pixels_of(picture, form.mode)
    return Arrays(inputs, images.labels)
