"""Images opened by Pillow, scaled or cropped, as tensors of bytes."""

import math
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._support.errors import MinimandError

if TYPE_CHECKING:
    import PIL.Image

_PART_AREA = (0.08, 1.0)
_PART_RATIO = (3 / 4, 4 / 3)


def is_grey(image: "PIL.Image.Image") -> bool:
    """Whether an image has no colour channels."""
    return image.mode in ("1", "L", "LA")


def open_image(cell: dict[str, Any], where: str) -> "PIL.Image.Image":
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


def scaled(image: "PIL.Image.Image", size: tuple[int, int]) -> "PIL.Image.Image":
    """An image in colour, its shorter side scaled to (height, width), and its centre."""
    height, width = size
    factor = max(height / image.height, width / image.width)
    large = image.convert("RGB").resize(
        (max(round(image.width * factor), width), max(round(image.height * factor), height))
    )
    left, top = (large.width - width) // 2, (large.height - height) // 2
    return large.crop((left, top, left + width, top + height))


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
