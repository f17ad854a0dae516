"""Files of numpy: an .npz archive, or .npy files side by side."""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from ..._support.errors import MinimandError
from ...recipes.augmentation import Augmentation
from ..data import Data, image_data
from ..samples import NO_CLASS, Arrays, class_range
from .csv_files import data_of_rows
from .labels import Task, as_targets
from .pictures import shown
from .splitting import PARTS, visible

_INPUTS = ("x", "inputs", "images", "features", "data", "arr_0")
_TARGETS = ("y", "targets", "labels", "target", "label", "arr_1")
_MUCH, _MOST_RATIO = 2**28, 100  # more than this, and so many times what is stored, is taken for an attack


def numpy_data(data_folder: str, task: Task | None = None) -> Data:
    """The arrays of an .npz file, or of the .npy files of a folder: x and y, perhaps as x_train, y_train, x_test ...

    `inputs`, `images`, `features` or `data` are x too, `targets` and `labels` y. Inputs are (n, ...); images of bytes
    (n, height, width) or (n, height, width, 1 or 3) get their channels first. Whole numbers are classes, others, or
    all with task="regression", quantities. Without a test part a fixed fifth is set aside. Nothing is unpickled.

    Raises:
        MinimandError: files that cannot be read, arrays that do not belong together; names them.
    """
    place = Path(data_folder)
    folder = place.parent if place.suffix.lower() == ".npy" else place
    if place.suffix.lower() == ".npz":
        arrays = dict(_archived(place))
    else:
        files = [path for path in visible(folder) if path.suffix.lower() == ".npy"]
        arrays = {path.stem: _stored(path) for path in files}
    parts = _parts(arrays, place)
    notes = ()
    used = {name for pair in parts.values() for name in pair}
    if unused := sorted(arrays.keys() - used):
        notes = (f"left out of {shown(place)}: {', '.join(unused)}.",)
    inputs, labels = {}, {}
    for part, (x, y) in parts.items():
        inputs[part], labels[part] = _inputs(arrays[x]), arrays[y]
        if len(inputs[part]) != len(labels[part]) or len(labels[part]) == 0:
            shapes = f"{x} has the shape {arrays[x].shape} and {y} {arrays[y].shape}"
            raise MinimandError(f"{shown(place)}: {shapes}; expected as many of both, and some.")
    targets, classes, more = _targets(labels, place, task)
    name = shown(place.resolve().stem)
    data = data_of_rows(
        {part: (inputs[part], targets[part]) for part in parts}, classes, name, shown(place), notes + more
    )
    if inputs["train"].dtype == torch.uint8 and inputs["train"].ndim == 4:
        return _normalized_images(data)
    return data


def _normalized_images(data: Data) -> Data:
    assert isinstance(data.train, Arrays)
    assert isinstance(data.test, Arrays)
    whole = image_data(data.name, data.train, data.test, data.classes, Augmentation(), data.source)
    return replace(data, mean=whole.mean, std=whole.std)


def _parts(arrays: Mapping[str, np.ndarray], place: Path) -> dict[str, tuple[str, str]]:
    """The names of inputs and targets by part."""
    parts: dict[str, dict[str, str]] = {}
    for name in arrays:
        words = [name.lower()] if name.startswith("arr_") else name.lower().replace("-", "_").split("_")
        part = next((PARTS[word] for word in words if word in PARTS), "train")
        for kind, known in (("x", _INPUTS), ("y", _TARGETS)):
            if {*words} & {*known}:
                if kind in parts.setdefault(part, {}):
                    both = f"{parts[part][kind]} and {name}"
                    raise MinimandError(f"{shown(place)}: {both} may both be the {kind} of {part}; expected one.")
                parts[part][kind] = name
    incomplete = [part for part, pair in parts.items() if len(pair) < 2]
    if "train" not in parts or incomplete:
        raise MinimandError(
            f"{shown(place)} has the arrays {', '.join(f'{n} {a.shape}' for n, a in arrays.items()) or 'none'}; "
            "expected x and y, or x_train, y_train, x_test and y_test."
        )
    return {part: (pair["x"], pair["y"]) for part, pair in parts.items()}


def _inputs(array: np.ndarray) -> Tensor:
    if array.dtype == np.uint8 and array.ndim == 3:
        array = array[:, None]
    elif array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    x = torch.from_numpy(np.ascontiguousarray(array))
    if x.is_floating_point():
        x = x.float()
        if not bool(x.isfinite().all()):
            row = int((~x.isfinite()).flatten(1).any(1).nonzero()[0]) if x.ndim > 1 else 0
            raise MinimandError(f"the inputs have a value that is not finite, first in row {row}; expected none.")
    return x


def _targets(
    labels: Mapping[str, np.ndarray], place: Path, task: Task | None
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    if labels["train"].ndim == 1:
        where = {part: (lambda i, part=part: f"{shown(place)}, {part} row {i + 1}") for part in labels}
        return as_targets({part: array.tolist() for part, array in labels.items()}, where, (), task)
    targets = {part: torch.from_numpy(np.ascontiguousarray(array)) for part, array in labels.items()}
    for part, y in targets.items():
        if not bool(y.isfinite().all()):
            raise MinimandError(
                f"{shown(place)}: the targets of {part} have a value that is not finite; expected none."
            )
    if task == "regression" or targets["train"].is_floating_point():
        return {part: y.float() for part, y in targets.items()}, (), ()
    low, highest = class_range(torch.cat([y.flatten()[None] for y in targets.values()], 1))
    if low < 0:
        raise MinimandError(
            f"{shown(place)}: a target is the class {low}; expected 0 and more, or {NO_CLASS} for no class."
        )
    return {part: y.long() for part, y in targets.items()}, tuple(map(str, range(highest + 1))), ()


def _archived(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    if not file.is_file():
        raise MinimandError(f"{shown(file)} is no regular file; expected an .npz archive.")
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.file_size > max(_MUCH, _MOST_RATIO * member.compress_size):
                    sizes = f"{member.file_size / 1e9:.3g} GB from {member.compress_size / 1e9:.3g} GB"
                    raise MinimandError(f"it unpacks {member.filename} to {sizes}")
                with archive.open(member) as stream:
                    yield member.filename.removesuffix(".npy"), _array(stream, member.file_size)
    except Exception as error:  # what zipfile, zlib and numpy raise for damaged files
        raise _unreadable(file, error) from None


def _stored(file: Path) -> np.ndarray:
    if not file.is_file():
        raise MinimandError(f"{shown(file)} is no regular file; expected an .npy file.")
    try:
        with file.open("rb") as stream:
            return _array(stream, file.stat().st_size)
    except Exception as error:
        raise _unreadable(file, error) from None


def _array(stream: IO[bytes], size: int) -> np.ndarray:
    """The array of an .npy file of so many bytes, which its header may not exceed."""
    version = np.lib.format.read_magic(stream)
    read_header: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
        version
    ]
    shape, is_fortran, dtype = read_header(stream)
    count = 1
    for length in shape:
        count *= length
    if dtype.hasobject or dtype.kind not in "biufUS":
        raise MinimandError(f"it holds {dtype}, no numbers or words")
    if count < 0 or count * dtype.itemsize > size:
        raise MinimandError(f"it has no room for the shape {shape} of {dtype}")
    content = stream.read(count * dtype.itemsize)
    array = np.frombuffer(content, dtype, count).reshape(shape, order="F" if is_fortran else "C")
    return array.astype(dtype.newbyteorder("="))


def _unreadable(file: Path, error: Exception) -> MinimandError:
    what = str(error) if isinstance(error, MinimandError) else f"{type(error).__name__}: {error}"
    return MinimandError(f"{shown(file)} is no file of numpy's that can be read ({what}).")
