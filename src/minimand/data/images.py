"""Images from the hub, from Parquet files and from folders, through the library `datasets` (extra `data`)."""

import math
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._support.checks import check_number
from .._support.errors import MinimandError
from .._support.extras import require
from ..recipes.augmentation import Augmentation
from .data import Data, image_data
from .samples import Arrays, Items

if TYPE_CHECKING:
    import datasets
    import PIL.Image

_TEST_NAMES = ("test", "validation", "val")
"""Names of splits and folders that hold test samples, the first choice first."""
_CROP_AND_FLIP = Augmentation(pad=4, flip=True)
"""What training does to photographs unless a data set or a recipe says otherwise."""
_PART_AREA, _PART_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
_BYTES_IN_MEMORY = 4 * 2**30
_SIZE_IF_THEY_DIFFER = 224
# What models trained on ImageNet expect, for images that are too many to be measured first.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _datasets_library() -> Any:
    """The library `datasets`, without its progress bars; raises MissingPackageError that names the extra."""
    datasets = require("datasets", "data", "to read images")
    require("PIL.Image", "data", "to read images")
    datasets.disable_progress_bars()
    return datasets


def hub(
    repository: str, name: str = "", augmentation: Augmentation = _CROP_AND_FLIP, image_size: int | None = None
) -> Data:
    """A data set of the Hugging Face hub with an image and a label column."""
    datasets = _datasets_library()
    try:
        splits = datasets.load_dataset(repository)
    except Exception as error:  # the library raises its own, httpx's and the file system's errors
        raise MinimandError(
            f"cannot load {repository!r} from the hub ({type(error).__name__}: {str(error).splitlines()[0]}). Without "
            "a network, name a folder that holds the data."
        ) from error
    return _from_splits(splits, name or repository, f"the hub ({repository})", augmentation, image_size)


def parquet(
    data_folder: str, name: str = "", augmentation: Augmentation = _CROP_AND_FLIP, image_size: int | None = None
) -> Data:
    """The data in Parquet files train*.parquet and test*.parquet of a folder, in the layout of `datasets`."""
    place = Path(data_folder)
    files = {split: sorted(map(str, place.glob(f"**/{split}*.parquet"))) for split in ("train", "test", "validation")}
    if not files["train"]:
        raise FileNotFoundError(f"no train*.parquet in {data_folder!r}; expected train.parquet and test.parquet.")
    present = {split: names for split, names in files.items() if names}
    try:
        splits = _datasets_library().load_dataset("parquet", data_files=present)
    except Exception as error:
        line = str(error).splitlines()[0]
        raise MinimandError(f"cannot read the Parquet files of {data_folder!r}: {line}") from error
    return _from_splits(splits, name or place.name, str(place), augmentation, image_size)


def image_folder(data_folder: str, image_size: int | None = None) -> Data:
    """A folder with a folder of images per class; or such folders in `train` and `test` (or `validation`).

    Without a test part, a fixed fifth of the images is set aside. Images are scaled and cropped to `image_size` pixels;
    by default to the size they have, or 224 where they differ.

    Raises:
        MinimandError: fewer than two classes, a class without training images, an image that cannot be read.
    """
    place = Path(data_folder)
    by_part = _class_folders(place)
    classes = by_part[0]
    if len(classes) < 2:
        names = ", ".join(sorted(classes)) or "none"
        raise MinimandError(
            f"image folder {data_folder!r}: expected at least two folders of images, one per class; found {names}."
        )
    if strange := ", ".join(sorted(set().union(*by_part) - classes)):
        raise MinimandError(f"image folder {data_folder!r}: {strange} has test images and no training images.")
    splits = _datasets_library().load_dataset("imagefolder", data_dir=str(place))
    return _from_splits(splits, place.resolve().name, str(place), _CROP_AND_FLIP, image_size)


def _class_folders(place: Path) -> list[set[str]]:
    """The names of the folders with images, in the whole or in each part, the training part first."""
    image = require("PIL.Image", "data", "to read images")
    suffixes = set(image.registered_extensions())
    parts = [place / part for part in ("train", *_TEST_NAMES) if (place / part).is_dir()]

    def has_images(folder: Path) -> bool:
        return folder.is_dir() and any(file.suffix.lower() in suffixes for file in folder.rglob("*"))

    return [{inner.name for inner in part.iterdir() if has_images(inner)} for part in parts or [place]]


def _from_splits(
    splits: "datasets.DatasetDict",
    name: str,
    source: str,
    augmentation: Augmentation,
    image_size: int | None,
    colour: bool = False,
) -> Data:
    """Data of an image and a label column; without a test split, a fixed fifth of the samples is set aside.

    Images are scaled and cropped to `image_size` pixels, with None only where their sizes differ; `colour` reads grey
    ones as colour too.
    """
    if image_size is not None:
        check_number("image_size", image_size, 1, math.inf, whole=True)
    train, test = _train_and_test(splits, name)
    image, label = _columns(train, name)
    names = getattr(train.features[label], "names", None)
    classes = names or [str(i) for i in range(int(max(train[label])) + 1)]
    undecoded = _datasets_library().Image(decode=False)
    train, test = train.cast_column(image, undecoded), test.cast_column(image, undecoded)
    first = _open_image(train[0][image], "the first image")
    mode = "L" if _is_grey(first) and not colour else "RGB"
    channels = 1 if mode == "L" else 3
    height, width = (image_size, image_size) if image_size else (first.height, first.width)
    if (len(train) + len(test)) * channels * height * width <= _BYTES_IN_MEMORY:
        try:
            arrays = [_read(part, image, label, mode, (height, width), bool(image_size)) for part in (train, test)]
        except _SizesDiffer:
            return _from_splits(splits, name, source, augmentation, _SIZE_IF_THEY_DIFFER, colour)
        except _SomeHaveColour:
            return _from_splits(splits, name, source, augmentation, image_size, colour=True)
        return image_data(name, arrays[0], arrays[1], tuple(classes), augmentation, source)
    side = image_size or _SIZE_IF_THEY_DIFFER
    crops = ((train, _random_part), (test, _scaled))
    parts = [Items(_Images(part, image, label, (side, side), crop)) for part, crop in crops]
    return Data(
        name,
        parts[0],
        parts[1],
        (3, side, side),  # one of the images not looked at may have colour
        classes=tuple(classes),
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        augmentation=replace(augmentation, pad=0),  # the images are cropped at random already
        source=source,
    )


def _train_and_test(splits: "datasets.DatasetDict", name: str) -> "tuple[datasets.Dataset, datasets.Dataset]":
    train = splits["train"] if "train" in splits else splits[next(iter(splits))]
    tests = [splits[key] for key in _TEST_NAMES if key in splits]
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
    """Images of a column in colour, decoded when they are asked for: the centre of each, or a part that torch draws."""

    def __init__(
        self, split: "datasets.Dataset", image: str, label: str, size: tuple[int, int], crop: Callable[..., Any]
    ) -> None:
        self.split, self.image, self.label, self.size, self.crop = split, image, label, size, crop

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        row = self.split[i]
        return _pixels_of(self.crop(_open_image(row[self.image], f"image {i}"), self.size), "RGB"), row[self.label]


def _read(split: "datasets.Dataset", image: str, label: str, mode: str, size: tuple[int, int], scale: bool) -> Arrays:
    images = []
    for i, cell in enumerate(split[image]):
        picture = _open_image(cell, f"image {i}")
        if mode == "L" and not _is_grey(picture):
            raise _SomeHaveColour
        if scale:
            picture = _scaled(picture, size)
        elif (picture.height, picture.width) != size:
            raise _SizesDiffer
        images.append(_pixels_of(picture, mode))
    return Arrays(torch.stack(images), torch.tensor(split[label][:]))


def _is_grey(image: "PIL.Image.Image") -> bool:
    """Whether an image has no colour channels."""
    return image.mode in ("1", "L", "LA")


def _open_image(cell: dict[str, Any], where: str) -> "PIL.Image.Image":
    """The decoded image of a cell of `datasets`, 16 bits of grey as 8.

    Raises:
        MinimandError: the image cannot be read, or is of another depth; names its path, or `where`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        content = Path(cell["path"]).read_bytes() if cell["bytes"] is None else cell["bytes"]
        picture = Image.open(BytesIO(content))
        picture.load()
    except UnidentifiedImageError:
        raise MinimandError(f"{cell['path'] or where} is no readable image; remove or replace it.") from None
    except (OSError, SyntaxError) as error:  # what else Pillow raises for broken files
        raise MinimandError(f"{cell['path'] or where} is no readable image ({error}); remove or replace it.") from None
    if picture.mode.startswith("I;16") or (picture.mode, picture.format) == ("I", "PNG"):
        # 16 bits of grey, which Pillow would clip to 8, not scale.
        return Image.fromarray((np.asarray(picture).astype(np.int64) // 257).astype(np.uint8))
    if picture.mode.startswith(("I", "F")):
        raise MinimandError(f"{cell['path'] or where} has the mode {picture.mode}; expected 8 or 16 bits a channel.")
    return picture


def _scaled(image: "PIL.Image.Image", size: tuple[int, int]) -> "PIL.Image.Image":
    """An image in colour, its shorter side scaled to (height, width), and its centre."""
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


def _pixels_of(image: "PIL.Image.Image", mode: str) -> Tensor:
    """The bytes of an image (C, H, W), C = 1 for the mode L and 3 for RGB."""
    pixels = torch.from_numpy(np.array(image.convert(mode)))
    return pixels[None] if mode == "L" else pixels.permute(2, 0, 1).contiguous()
