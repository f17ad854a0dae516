"""Fashion-MNIST: 28 x 28 grey images of clothes (Xiao et al. 2017)."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from ...recipes.augmentation import Augmentation
from ..data import Data, image_data
from ..files.pictures import shown
from ..hub import hub
from ..registry import DEBIAN, data_set
from ..samples import Arrays

_CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_MOST_UNPACKED, _MOST_BYTES = 1032, 2**27  # times that gzip can shrink; bytes of a file, thrice what it has
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
    images = _idx(folder, f"{part}-images-idx3-ubyte", 3)
    labels = _idx(folder, f"{part}-labels-idx1-ubyte", 1).long()
    if len(images) != len(labels):
        raise MinimandError(f"{part} in {shown(folder)} has {len(images)} images with {len(labels)} labels.")
    if len(labels) and int(labels.max()) >= len(_CLASSES):
        raise MinimandError(f"{part} in {shown(folder)} has the label {int(labels.max())}; expected 0 to 9.")
    return Arrays(images[:, None], labels)


def _idx(folder: Path, name: str, dimensions: int) -> Tensor:
    """Read an IDX file: a magic number whose last byte is the number of dimensions, the sizes, the bytes.

    No more is unpacked than what the sizes say, nor anything where they say more than the file can hold.
    """
    packed, plain = folder / f"{name}.gz", folder / name
    file = packed if packed.is_file() else plain
    if not file.is_file():
        raise FileNotFoundError(f"no {name} or {name}.gz in {folder}; expected the four files of Fashion-MNIST.")
    stored = file.stat().st_size
    try:
        with gzip.open(file) if file is packed else file.open("rb") as stream:
            header = stream.read(4 + 4 * dimensions)
            shape = [int.from_bytes(header[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
            size = math.prod(shape)
            is_whole = header[:4] == bytes([0, 0, 8, dimensions]) and len(header) == 4 + 4 * dimensions
            possible = stored if file is plain else _MOST_UNPACKED * stored
            content = stream.read(size + 1) if is_whole and size <= min(possible, _MOST_BYTES) else b""
    except (EOFError, OSError, zlib.error) as error:
        raise MinimandError(f"{shown(file)} cannot be unpacked ({error}); fetch it again.") from None
    if not is_whole or len(content) != size:
        raise MinimandError(f"{shown(file)} is no whole IDX file of bytes; fetch it again.")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(shape) if size else torch.zeros(shape)
