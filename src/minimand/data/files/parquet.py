"""Images in Parquet files, as `datasets`, pandas and others write them (extra `data`)."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch import Tensor

from ..._support.errors import MinimandError
from ..._support.extras import require
from ...recipes.augmentation import Augmentation
from ..data import Data
from .images import CROP_AND_FLIP, Undecoded, data_of_images
from .labels import as_targets, label_column
from .pictures import MOST_BYTES, read_bytes, shown
from .splitting import files_by_part

_IMAGE_NAMES = ("image", "img", "path", "file", "file_name", "filename", "image_path")
# A group of rows is unpacked at once. More than 100 times what is stored, and much, is taken for an attack.
_MOST_UNPACKED, _MUCH, _MOST_RATIO = 2**31, 2**28, 100
_MOST_ROWS = 20_000_000


def parquet(
    data_folder: str,
    name: str = "",
    augmentation: Augmentation = CROP_AND_FLIP,
    image_size: int | None = None,
    label: str | None = None,
) -> Data:
    """The data in Parquet files train*, test* and val*.parquet of a folder, or in one file, a fifth of it set aside.

    A column holds images, as bytes, as {bytes, path} or as paths inside the folder; `label` names that of the classes,
    whole numbers or words, by default the one called so.

    Raises:
        MinimandError: files without such columns, missing values, a path that leads out of the folder.
    """
    place = Path(data_folder)
    by_part, others = ({"train": [place]}, []) if place.is_file() else files_by_part(place, ".parquet")
    if "train" not in by_part:
        raise FileNotFoundError(
            f"no train*.parquet in {shown(place)!r}; expected train.parquet and, if there is one, test.parquet."
        )
    root = place.parent if place.is_file() else place
    tables = {part: [ParquetFile.open(file) for file in files] for part, files in by_part.items()}
    first = tables["train"][0]
    image = first.image_column()
    likely = [name for name in first.columns if first.class_names(name)]
    column = label_column(first.columns, label, [image], shown(first.path), likely)
    for file in (file for files in tables.values() for file in files):
        if missing := {image, column} - {*file.columns}:
            raise MinimandError(
                f"{shown(file.path)} has no column {', '.join(sorted(missing))}, as {shown(first.path)} has; it has "
                f"{', '.join(file.columns)}."
            )
    labels = {part: [v for file in files for v in file.values(column)] for part, files in tables.items()}
    images = {part: ParquetImages(root, image, files) for part, files in tables.items()}
    where = {part: rows.where for part, rows in images.items()}
    targets, classes, notes = as_targets(labels, where, first.class_names(column))
    for part, rows in images.items():
        rows.labels = targets[part]
    if unused := [name for name in first.columns if name not in (image, column)]:
        notes += (f"left out of {shown(first.path)}: {', '.join(map(repr, unused))}.",)
    notes += tuple(f"left out, as neither train, test nor val: {other}." for other in others)
    name = name or shown(place.resolve().stem)
    return data_of_images(images, classes, name, shown(place), augmentation, image_size, notes)


@dataclass(frozen=True)
class ParquetFile:
    """What is known of a Parquet file before its rows are read; it is opened again for these, by any process."""

    path: Path
    schema: Any
    groups: tuple[int, ...]
    """The number of rows of each group."""

    @classmethod
    def open(cls, path: Path) -> "ParquetFile":
        module = require("pyarrow.parquet", "data", "to read Parquet files")
        if not path.is_file():
            raise MinimandError(f"{shown(path)} is no regular file; expected a Parquet file.")
        try:
            with module.ParquetFile(path) as file:
                counts = tuple(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))
                if sum(counts) > _MOST_ROWS:
                    raise MinimandError(f"{shown(path)} has {sum(counts):,} rows; expected at most {_MOST_ROWS:,}.")
                return cls(path, file.schema_arrow, counts)
        except MinimandError:
            raise
        except Exception as error:  # pyarrow's own kinds, and what its metadata reader raises
            raise _unreadable(path, error) from None

    @property
    def columns(self) -> list[str]:
        return list(self.schema.names)

    def image_column(self) -> str:
        """The column of {bytes, path}, of bytes or, by its name, of paths."""
        types = require("pyarrow", "data", "to read Parquet files").types

        def is_bytes(kind: Any) -> bool:
            return types.is_binary(kind) or types.is_large_binary(kind)

        def is_text(kind: Any) -> bool:
            return types.is_string(kind) or types.is_large_string(kind)

        columns = list(zip(self.schema.names, self.schema.types, strict=True))
        structs = [n for n, k in columns if types.is_struct(k) and {"bytes", "path"} & {f.name for f in k}]
        plain = [n for n, k in columns if is_bytes(k)]
        paths = [n for wanted in _IMAGE_NAMES for n, k in columns if n.lower() == wanted and is_text(k)]
        if not (names := structs + plain + paths):
            raise MinimandError(
                f"{shown(self.path)} has the columns {', '.join(self.columns)}; expected one of images: bytes, or "
                "{bytes, path}, or paths in a column called image; and a label column. A column of text is read with "
                "tokens='character', say."
            )
        return names[0]

    def text_columns(self) -> list[str]:
        """The names of the columns that hold text."""
        types = require("pyarrow", "data", "to read Parquet files").types
        columns = zip(self.schema.names, self.schema.types, strict=True)
        return [name for name, kind in columns if types.is_string(kind) or types.is_large_string(kind)]

    def class_names(self, column: str) -> Sequence[str]:
        """The names of classes that the library `datasets` wrote for a column."""
        try:
            features = json.loads(self.schema.metadata[b"huggingface"])["info"]["features"]
            return tuple(map(str, features[column]["names"]))
        except (KeyError, TypeError, ValueError):
            return ()

    def values(self, column: str) -> list[Any]:
        """All values of a column of labels."""
        return [value for group in range(len(self.groups)) for value in self.group(group, column).to_pylist()]

    def group(self, number: int, column: str) -> Any:
        """A column of a group of rows, unpacked."""
        module = require("pyarrow.parquet", "data", "to read Parquet files")
        try:
            with module.ParquetFile(self.path) as file:
                about = file.metadata.row_group(number)
                parts = [about.column(i) for i in range(about.num_columns)]
                parts = [part for part in parts if part.path_in_schema.partition(".")[0] == column]
                unpacked = sum(part.total_uncompressed_size for part in parts)
                stored = sum(part.total_compressed_size for part in parts)
                if unpacked > _MOST_UNPACKED or unpacked > max(_MUCH, _MOST_RATIO * stored):
                    raise MinimandError(
                        f"{shown(self.path)} unpacks {unpacked / 1e9:.3g} GB at once from {stored / 1e9:.3g}; expected "
                        "smaller groups of rows, as pyarrow.parquet.write_table(..., row_group_size=1000) writes them."
                    )
                # A dictionary may hold one large value for all rows, so that a few of these fill the memory.
                at_once = max(min(_MUCH // max(unpacked, 1), 1024), 1)
                rows = file.iter_batches(at_once, row_groups=[number], columns=[column])
                return _joined(self.path, rows, max(_MUCH, _MOST_RATIO * stored))
        except MinimandError:
            raise
        except Exception as error:
            raise _unreadable(self.path, error) from None


def _joined(path: Path, batches: Any, most: int) -> Any:
    """The only column of batches of rows, as long as it has no more bytes than `most`."""
    arrow = require("pyarrow", "data", "to read Parquet files")
    chunks, size = [], 0
    for batch in batches:
        chunks.append(batch.column(0))
        size += batch.nbytes
        if size > most:
            raise MinimandError(f"{shown(path)} unpacks to more than {most:,} bytes at once; is it damaged?")
    return arrow.chunked_array(chunks) if chunks else arrow.array([])


def _unreadable(path: Path, error: Exception) -> MinimandError:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return MinimandError(f"{shown(path)} is no Parquet file that can be read ({line}).")


@dataclass
class ParquetImages(Undecoded):
    """Images in a column of Parquet files; one group of rows is kept unpacked at a time."""

    root: Path
    column: str
    files: list[ParquetFile]
    labels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._groups = [(file, number) for file in self.files for number in range(len(file.groups))]
        self._ends = list(accumulate(file.groups[number] for file, number in self._groups))
        self._first_rows = [0, *accumulate(sum(file.groups) for file in self.files)]
        self._unpacked: tuple[int, Any] = (-1, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_unpacked": (-1, None)}

    def content(self, i: int) -> bytes:
        number = bisect_right(self._ends, i)
        if self._unpacked[0] != number:
            self._unpacked = (-1, None)
            file, group = self._groups[number]
            self._unpacked = (number, file.group(group, self.column))
        cell = self._unpacked[1][i - self._ends[number]].as_py()  # counted from the end of the group
        held: dict[str, Any] = cell if isinstance(cell, dict) else {"path" if isinstance(cell, str) else "bytes": cell}
        if (content := held.get("bytes")) is not None:
            if len(content) > MOST_BYTES:
                raise MinimandError(
                    f"{self.where(i)}: the image has {len(content):,} bytes; expected at most {MOST_BYTES:,}."
                )
            return content
        if held.get("path") is None:
            raise MinimandError(f"{self.where(i)}: the image is missing; expected one in every row.")
        return read_inside(self.root, held["path"], self.where(i))

    def where(self, i: int) -> str:
        number = bisect_right(self._first_rows, i) - 1
        return f"{shown(self.files[number].path)}, row {i - self._first_rows[number] + 1}"


def read_inside(root: Path, path: str, where: str) -> bytes:
    """The content of a file by a path that a table has, which may not lead out of the folder of the data."""
    try:
        file = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise MinimandError(f"{where}: the path {path!r} cannot be followed ({error}).") from None
    if not file.is_relative_to(root.resolve()):
        raise MinimandError(f"{where}: the path {path!r} leads out of {shown(root)}; expected one of a file in it.")
    if not file.is_file():
        raise MinimandError(f"{where}: there is no file {path!r} in {shown(root)}.")
    return read_bytes(file)
