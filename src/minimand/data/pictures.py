"""Images out of files as a model that was trained on some data takes them."""

from pathlib import Path
from typing import Any

from torch import Tensor

from .._support.errors import MinimandError
from .._support.extras import require
from .data import Data
from .images import _open_image, _pixels_of, _scaled


def picture_files(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it, hidden ones left out, in the order of their names.

    Raises MinimandError where there are none.
    """
    suffixes = set(require("PIL.Image", "data", "to read images").registered_extensions())
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in suffixes and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if not files:
        raise MinimandError(f"the folder {str(folder)!r} has no images; expected some, such as .png or .jpg files.")
    return files


def read_picture(image: Any, data: Data, where: str) -> Tensor:
    """The bytes (C, H, W) of an image file or a PIL image, scaled and cropped at its centre to the size of some data.

    `where` names the image in errors. Raises MinimandError where the data are no images, or the file is none.
    """
    if len(data.shape) != 3 or data.shape[0] not in (1, 3):
        raise MinimandError(
            f"{where} is an image, but the model takes samples of the shape {data.shape}; expected tensors, or .npy "
            "files."
        )
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise FileNotFoundError(f"no file {str(image)!r}.")
        require("PIL.Image", "data", "to read images")
        image = _open_image({"path": str(image), "bytes": None}, where)
    mode = "L" if data.shape[0] == 1 else "RGB"
    return _pixels_of(_scaled(image, (data.shape[1], data.shape[2])), mode)
