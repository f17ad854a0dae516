"""Single images: opened whatever they claim to be, scaled, cropped, as bytes of a tensor."""

import math
import os
import stat
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..._support.errors import MinimandError
from ..._support.extras import require
from ..data import Data

if TYPE_CHECKING:
    import PIL.Image

MOST_BYTES = 2**28
"""The most bytes of a file or a cell that holds one image."""
_MOST_PIXELS = 89_478_485  # above which Pillow warns of a decompression bomb
# The formats of photographs and drawings; others, such as EPS, run programs or hold no pixels.
_FORMATS = ["PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA", "QOI"]
_PART_AREA, _PART_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


@cache
def suffixes() -> frozenset[str]:
    """The endings of the names of files that hold images, in lower case; needs Pillow (extra `data`)."""
    image = require("PIL.Image", "data", "to read images")
    return frozenset(suffix for suffix, kind in image.registered_extensions().items() if kind in _FORMATS)


def shown(path: str | Path) -> str:
    """A path as it can be printed, whatever bytes its names have."""
    return os.fsencode(path).decode(errors="backslashreplace")


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file; raises MinimandError for one that is no regular file or larger than `most` bytes."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MinimandError(f"{shown(path)} is no regular file; expected one that ends.")
            if status.st_size > most:
                raise MinimandError(f"{shown(path)} has {status.st_size:,} bytes; expected at most {most:,}.")
            return file.read(most + 1)
    except OSError as error:
        raise MinimandError(f"{shown(path)} cannot be read ({error.strerror or error}).") from None


def open_picture(content: bytes, where: str) -> "PIL.Image.Image":
    """The decoded image of the bytes of a file, upright as its EXIF orientation says; 16 bits of grey as 8.

    Raises:
        MinimandError: the image cannot be read, is too large or of another depth; names `where` it is.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        Image.init()
        picture = Image.open(BytesIO(content), formats=[kind for kind in _FORMATS if kind in Image.OPEN])
        if picture.width * picture.height <= _MOST_PIXELS:
            picture.load()
            picture = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise MinimandError(f"{where} is no readable image; remove or replace it.") from None
    except Exception as error:  # Pillow raises whatever its decoders do
        raise MinimandError(f"{where} is no readable image ({error}); remove or replace it.") from None
    if picture.width * picture.height > _MOST_PIXELS:
        raise MinimandError(
            f"{where} unpacks to {picture.width} x {picture.height} pixels; expected at most {_MOST_PIXELS:,}. Scale "
            "it down."
        )
    if picture.mode.startswith("I;16") or (picture.mode == "I" and content.startswith(b"\x89PNG")):
        # 16 bits of grey, which Pillow would clip to 8, not scale.
        return Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
    if picture.mode.startswith(("I", "F")):
        raise MinimandError(f"{where} has the mode {picture.mode}; expected 8 or 16 bits a channel.")
    return picture


def size_of(content: bytes) -> tuple[int, int]:
    """The shorter and the longer side of an image, from its header alone; (0, 0) where that cannot be read."""
    from PIL import Image

    try:
        with Image.open(BytesIO(content), formats=[kind for kind in _FORMATS if kind in Image.OPEN]) as picture:
            return min(picture.size), max(picture.size)
    except Exception:  # what is wrong with it is said when it is decoded
        return 0, 0


def is_grey(image: "PIL.Image.Image") -> bool:
    """Whether an image has no colour channels."""
    return image.mode in ("1", "L", "LA")


def scaled(image: "PIL.Image.Image", size: tuple[int, int]) -> "PIL.Image.Image":
    """An image in colour, its shorter side scaled to (height, width), and its centre."""
    height, width = size
    factor = max(height / image.height, width / image.width)
    # The centre is cut out first, as a long strip would become a large image.
    across, down = min(width / factor, image.width), min(height / factor, image.height)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    return image.convert("RGB").resize((width, height), box=(left, top, left + across, top + down))


def random_part(image: "PIL.Image.Image", size: tuple[int, int]) -> "PIL.Image.Image":
    """A part of the image, scaled to the size, as is usual in training on ImageNet (Szegedy et al. 2015)."""
    for _ in range(10):
        area = image.width * image.height * float(torch.empty(()).uniform_(*_PART_AREA))
        ratio = math.exp(float(torch.empty(()).uniform_(*map(math.log, _PART_RATIO))))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= image.width and 0 < height <= image.height:
            left, top = (int(torch.randint(1 + spare, ())) for spare in (image.width - width, image.height - height))
            return image.convert("RGB").resize((size[1], size[0]), box=(left, top, left + width, top + height))
    return scaled(image, size)


def pixels_of(image: "PIL.Image.Image", mode: str) -> Tensor:
    """The bytes of an image (C, H, W), C = 1 for the mode L and 3 for RGB."""
    pixels = torch.from_numpy(np.array(image.convert(mode)))
    return pixels[None] if mode == "L" else pixels.permute(2, 0, 1).contiguous()


def read_picture(image: Any, data: Data, where: str) -> Tensor:
    """The bytes (C, H, W) of an image file or a PIL image, scaled and cropped at its centre to the size of some data.

    `where` names the image in errors. Raises MinimandError where the data are no images, or the file is none.
    """
    if len(data.shape) != 3 or data.shape[0] not in (1, 3):
        is_picture = not isinstance(image, str | Path) or Path(image).suffix.lower() in suffixes()
        raise MinimandError(
            f"{where} is {'an image' if is_picture else 'no array of numbers'}, but the model takes samples of the "
            f"shape {data.shape}; expected tensors, or .npy files."
        )
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise FileNotFoundError(f"no file {shown(image)!r}.")
        require("PIL.Image", "data", "to read images")
        image = open_picture(read_bytes(image), where)
    return pixels_of(scaled(image, (data.shape[1], data.shape[2])), "L" if data.shape[0] == 1 else "RGB")
