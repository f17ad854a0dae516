"""Fashion-MNIST: 28 x 28 grey images of clothes (Xiao et al. 2017)."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..._support.errors import MinimandError
from ...recipes.augmentation import Augmentation
from ..data import Data, image_data
from ..images import hub
from ..registry import DEBIAN, data_set
from ..samples import Arrays

_CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_AUGMENTATION = Augmentation(pad=2, flip=True)


@data_set("fashion_mnist", "xiao2017fashion")
def fashion_mnist(data_folder: str | None = None) -> Data:
    """60,000 training and 10,000 test images (1, 28, 28) in 10 classes.

    They are read from the four IDX files in `data_folder`, compressed or not; by default Debian's, else from the hub.
    """
    if data_folder is None and not DEBIAN.is_dir():
        return hub("zalando-datasets/fashion_mnist", "fashion_mnist", _AUGMENTATION)
    place = Path(data_folder) if data_folder is not None else DEBIAN
    train, test = _read(place, "train"), _read(place, "t10k")
    return image_data("fashion_mnist", train, test, _CLASSES, _AUGMENTATION, str(place))


def _read(folder: Path, part: str) -> Arrays:
    return Arrays(_idx(folder, f"{part}-images-idx3-ubyte")[:, None], _idx(folder, f"{part}-labels-idx1-ubyte").long())


def _idx(folder: Path, name: str) -> Tensor:
    """Read an IDX file: a magic number whose last byte is the number of dimensions, the sizes, the bytes."""
    packed, plain = folder / f"{name}.gz", folder / name
    if not packed.is_file() and not plain.is_file():
        raise FileNotFoundError(f"no {name} or {name}.gz in {folder}; expected the four files of Fashion-MNIST.")
    try:
        content = gzip.decompress(packed.read_bytes()) if packed.is_file() else plain.read_bytes()
    except (EOFError, OSError) as error:
        raise MinimandError(f"{packed} cannot be unpacked ({error}); fetch it again.") from None
    dimensions = content[3] if len(content) >= 4 else 0
    header = 4 + 4 * dimensions
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    if content[:3] != b"\0\0\x08" or len(content) != header + int(np.prod(shape)):
        raise MinimandError(f"{name} in {folder} is no whole IDX file of bytes.")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
