"""Folders of images by class."""

from pathlib import Path

from ..._support.errors import MinimandError
from ..._support.extras import require
from ..data import Data
from .splits import CROP_AND_FLIP, TEST_NAMES, datasets_library, from_splits


def image_folder(data_folder: str, image_size: int | None = None) -> Data:
    """A folder with a folder of images per class; or such folders in `train` and `test` (or `validation`).

    Args:
        data_folder: its path. Without a test part, a fixed fifth of the images is set aside.
        image_size: images are scaled and cropped to this many pixels; by default the size they have, or 224 where
            they differ.

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
    strange = sorted(set().union(*by_part) - classes)
    if strange:
        raise MinimandError(
            f"image folder {data_folder!r}: {', '.join(strange)} has test images and no training images."
        )
    splits = datasets_library().load_dataset("imagefolder", data_dir=str(place))
    return from_splits(splits, place.resolve().name, str(place), CROP_AND_FLIP, image_size)


def _class_folders(place: Path) -> list[set[str]]:
    """The names of the folders with images, in the whole or in each part, the training part first."""
    image = require("PIL.Image", "data", "to read images")
    suffixes = set(image.registered_extensions())
    parts = [place / part for part in ("train", *TEST_NAMES) if (place / part).is_dir()]
    return [
        {
            inner.name
            for inner in part.iterdir()
            if inner.is_dir() and any(file.suffix.lower() in suffixes for file in inner.rglob("*"))
        }
        for part in parts or [place]
    ]
