"""Images from the hub, from Parquet files and from folders, through the library `datasets` (extra `data`)."""

import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._support.errors import MinimandError
from .._support.extras import require
from ..recipes.augmentation import Augmentation
from .data import Data, channel_statistics
from .samples import Arrays, Items, Samples

if TYPE_CHECKING:
    import datasets
    import PIL.Image

_TEST_NAMES = ("test", "validation", "val")
_DEFAULT = Augmentation(pad=4, flip=True)
_BYTES_IN_MEMORY = 4 * 2**30
_SIZE_IF_THEY_DIFFER = 224
_PART_AREA = (0.08, 1.0)
_PART_RATIO = (3 / 4, 4 / 3)
# What models trained on ImageNet expect, for images that are too many to be measured first.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def cifar10(data_folder: str | None = None) -> Data:
    """50,000 training and 10,000 test images (3, 32, 32) in 10 classes (Krizhevsky, 2009).

    Args:
        data_folder: with train.parquet and test.parquet; by default the hub.
    """
    return _cifar("cifar10", data_folder)


def cifar100(data_folder: str | None = None) -> Data:
    """50,000 training and 10,000 test images (3, 32, 32) in 100 classes (Krizhevsky, 2009).

    Args:
        data_folder: with train.parquet and test.parquet; by default the hub.
    """
    return _cifar("cifar100", data_folder)


def _cifar(name: str, data_folder: str | None) -> Data:
    if data_folder is None:
        return hub(f"uoft-cs/{name}", name, _DEFAULT)
    return parquet(data_folder, name, _DEFAULT)


def hub(repository: str, name: str = "", augmentation: Augmentation = _DEFAULT, image_size: int | None = None) -> Data:
    """A data set of the Hugging Face hub with an image and a label column."""
    datasets = _datasets()
    try:
        found = datasets.load_dataset(repository)
    except Exception as error:  # the library raises its own, httpx's and the file system's errors
        raise MinimandError(
            f"cannot load {repository!r} from the hub ({type(error).__name__}: {str(error).splitlines()[0]}). Without "
            "a network, name a folder that holds the data."
        ) from error
    return _from_splits(found, name or repository, f"the hub ({repository})", augmentation, image_size)


def parquet(
    data_folder: str, name: str = "", augmentation: Augmentation = _DEFAULT, image_size: int | None = None
) -> Data:
    """Parquet files of a folder, by their names train*.parquet and test*.parquet, in the layout of `datasets`."""
    place = Path(data_folder)
    files = {split: sorted(map(str, place.glob(f"**/{split}*.parquet"))) for split in ("train", "test", "validation")}
    if not files["train"]:
        raise FileNotFoundError(f"no train*.parquet in {data_folder!r}; expected train.parquet and test.parquet.")
    given = {split: names for split, names in files.items() if names}
    try:
        found = _datasets().load_dataset("parquet", data_files=given)
    except Exception as error:
        raise MinimandError(
            f"cannot read the Parquet files of {data_folder!r}: {str(error).splitlines()[0]}"
        ) from error
    return _from_splits(found, name or place.name, str(place), augmentation, image_size)


def image_folder(data_folder: str, image_size: int | None = None) -> Data:
    """A folder with a folder of images per class; or such folders in `train` and `test` (or `validation`).

    Args:
        data_folder: its path. Without a test part, a fixed fifth of the images is set aside.
        image_size: images are scaled and cropped to this many pixels; by default the size they have, or 224 where
            they differ.

    Raises:
        ValueError: fewer than two classes, a class without training images, an image that cannot be read.
    """
    place = Path(data_folder)
    by_part = _class_folders(place)
    classes = by_part[0]
    if len(classes) < 2:
        found = f"found {', '.join(sorted(classes)) or 'none'}"
        raise MinimandError(
            f"image folder {data_folder!r}: expected at least two folders of images, one per class; {found}."
        )
    strange = sorted(set().union(*by_part) - classes)
    if strange:
        raise MinimandError(
            f"image folder {data_folder!r}: {', '.join(strange)} has test images and no training images."
        )
    found = _datasets().load_dataset("imagefolder", data_dir=str(place))
    return _from_splits(found, place.resolve().name, str(place), _DEFAULT, image_size)


def _class_folders(place: Path) -> list[set[str]]:
    """The names of the folders with images, in the whole or in each part, the training part first."""
    image = require("PIL.Image", "data", "to read images")
    suffixes = set(image.registered_extensions())
    parts = [place / part for part in ("train", *_TEST_NAMES) if (place / part).is_dir()]
    return [
        {
            inner.name
            for inner in part.iterdir()
            if inner.is_dir() and any(file.suffix.lower() in suffixes for file in inner.rglob("*"))
        }
        for part in parts or [place]
    ]


def _datasets() -> Any:
    datasets = require("datasets", "data", "to read images")
    require("PIL.Image", "data", "to read images")
    datasets.disable_progress_bars()
    return datasets


def _from_splits(
    splits: "datasets.DatasetDict",
    name: str,
    source: str,
    augmentation: Augmentation,
    image_size: int | None,
    colour: bool = False,
) -> Data:
    if image_size is not None and (not isinstance(image_size, int) or image_size < 1):
        raise MinimandError(f"image_size is {image_size!r}; expected an integer of at least 1.")
    train = splits["train"] if "train" in splits else splits[next(iter(splits))]
    rest = [splits[key] for key in _TEST_NAMES if key in splits]
    if not rest:
        train, test = _halves(train, _columns(train, name)[1])
    else:
        test = rest[0]
    image, label = _columns(train, name)
    names = getattr(train.features[label], "names", None)
    classes = names or [str(i) for i in range(int(max(train[label])) + 1)]
    train, test = train.cast_column(image, _undecoded()), test.cast_column(image, _undecoded())
    first = _open(train[0][image], "the first image")
    mode = "L" if _is_grey(first) and not colour else "RGB"
    channels = 1 if mode == "L" else 3
    height, width = (image_size, image_size) if image_size else (first.height, first.width)
    read: tuple[Samples, Samples]
    if (len(train) + len(test)) * channels * height * width <= _BYTES_IN_MEMORY:
        try:
            arrays = [_read(part, image, label, mode, (height, width), bool(image_size)) for part in (train, test)]
        except _SizesDiffer:
            return _from_splits(splits, name, source, augmentation, _SIZE_IF_THEY_DIFFER, colour)
        except _SomeHaveColour:
            return _from_splits(splits, name, source, augmentation, image_size, colour=True)
        mean, std = channel_statistics(arrays[0].inputs)
        read = arrays[0], arrays[1]
    else:
        height = width = image_size or _SIZE_IF_THEY_DIFFER
        mean, std = _IMAGENET
        size = (height, width)
        mode, channels = "RGB", 3  # one of the images not looked at may have colour
        read = Items(_Images(train, image, label, mode, size, True)), Items(_Images(test, image, label, mode, size))
        augmentation = replace(augmentation, pad=0)  # they are cropped at random already
    return Data(
        name,
        read[0],
        read[1],
        (channels, height, width),
        classes=tuple(classes),
        mean=mean[:channels],
        std=std[:channels],
        augmentation=augmentation,
        source=source,
    )


def _columns(split: "datasets.Dataset", name: str) -> tuple[str, str]:
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


def _is_grey(image: "PIL.Image.Image") -> bool:
    return image.mode in ("1", "L", "LA")


def _halves(split: "datasets.Dataset", label: str) -> "tuple[datasets.Dataset, datasets.Dataset]":
    """Four fifths and a fifth, of each class where every one has enough."""
    import datasets

    counts = np.unique(split[label][:], return_counts=True)[1]
    even = isinstance(split.features[label], datasets.ClassLabel) and counts.min() > 1 and len(split) >= 5 * len(counts)
    found = split.train_test_split(test_size=0.2, seed=0, stratify_by_column=label if even else None)
    return found["train"], found["test"]


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
        self.crop = _random_part if random else _scaled

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        row = self.split[i]
        return _pixels(self.crop(_open(row[self.image], f"image {i}"), self.size), self.mode), row[self.label]


def _read(split: "datasets.Dataset", image: str, label: str, mode: str, size: tuple[int, int], scale: bool) -> Arrays:
    images = []
    for i, cell in enumerate(split[image]):
        found = _open(cell, f"image {i}")
        if mode == "L" and not _is_grey(found):
            raise _SomeHaveColour
        if scale:
            found = _scaled(found, size)
        elif (found.height, found.width) != size:
            raise _SizesDiffer
        images.append(_pixels(found, mode))
    return Arrays(torch.stack(images), torch.tensor(split[label][:]))


def _open(cell: dict[str, Any], where: str) -> "PIL.Image.Image":
    from PIL import Image, UnidentifiedImageError

    try:
        content = Path(cell["path"]).read_bytes() if cell["bytes"] is None else cell["bytes"]
        found = Image.open(BytesIO(content))
        found.load()
    except UnidentifiedImageError:
        raise MinimandError(f"{cell['path'] or where} is no readable image; remove or replace it.") from None
    except (OSError, SyntaxError) as error:  # what else Pillow raises for broken files
        raise MinimandError(f"{cell['path'] or where} is no readable image ({error}); remove or replace it.") from None
    if found.mode.startswith("I;16") or (found.mode, found.format) == ("I", "PNG"):
        # 16 bits of grey, which Pillow would clip to 8, not scale.
        return Image.fromarray((np.asarray(found).astype(np.int64) // 257).astype(np.uint8))
    if found.mode.startswith(("I", "F")):
        raise MinimandError(f"{cell['path'] or where} has the mode {found.mode}; expected 8 or 16 bits a channel.")
    return found


def _scaled(image: "PIL.Image.Image", size: tuple[int, int]) -> "PIL.Image.Image":
    """The shorter side to the size, then the centre."""
    height, width = size
    factor = max(height / image.height, width / image.width)
    large = image.convert("RGB").resize(
        (max(round(image.width * factor), width), max(round(image.height * factor), height))
    )
    left, top = (large.width - width) // 2, (large.height - height) // 2
    return large.crop((left, top, left + width, top + height))


def _random_part(image: "PIL.Image.Image", size: tuple[int, int]) -> "PIL.Image.Image":
    """A part of the image, scaled to the size, as is usual in training on ImageNet (Szegedy et al. 2015)."""
    for _ in range(10):
        area = image.width * image.height * float(torch.empty(()).uniform_(*_PART_AREA))
        ratio = math.exp(float(torch.empty(()).uniform_(*map(math.log, _PART_RATIO))))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= image.width and 0 < height <= image.height:
            left, top = (int(torch.randint(1 + spare, ())) for spare in (image.width - width, image.height - height))
            return image.convert("RGB").resize((size[1], size[0]), box=(left, top, left + width, top + height))
    return _scaled(image, size)


def _pixels(image: "PIL.Image.Image", mode: str) -> Tensor:
    pixels = torch.from_numpy(np.array(image.convert(mode)))
    return pixels[None] if mode == "L" else pixels.permute(2, 0, 1).contiguous()


def _undecoded() -> Any:
    import datasets

    return datasets.Image(decode=False)
