"""CSV files: a row for each sample, of numbers or of the path of an image, with its label."""

import csv
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from ..data import Data, in_single_precision
from ..samples import Arrays
from .images import Undecoded, data_of_images, with_test
from .labels import LABEL_NAMES, Task, as_targets
from .parquet import read_inside
from .pictures import shown, suffixes
from .splitting import files_by_part

_DELIMITERS = ",;\t"
_LONGEST_LINE = 2**22
_EXACT = 2**24  # float32 holds every whole number up to here
_LARGEST = torch.finfo(torch.float32).max
_IMAGE_NAMES = ("image", "img", "path", "file", "file_name", "filename", "filepath", "image_path")
_INDEX_NAMES = ("", "unnamed: 0")


def csv_data(
    data_folder: str, label: str | None = None, task: Task | None = None, image_size: int | None = None
) -> Data:
    """The data in a CSV file, or in train*.csv, test*.csv and val*.csv of a folder: numbers, or paths of images.

    `label` names the column of labels, by default one called so, else the last. Words and whole numbers are classes,
    other numbers quantities, as with task="regression". Without a test part a fixed fifth of the rows is set aside.
    Numbers are normalized by the mean and the deviation of each column in training.

    Raises:
        MinimandError: rows that cannot be read, values that are missing or no numbers; names the file and the row.
    """
    place = Path(data_folder)
    by_part, others = ({"train": [place]}, []) if place.is_file() else files_by_part(place, ".csv")
    if "train" not in by_part:
        raise FileNotFoundError(
            f"no train*.csv in {shown(place)!r}; expected train.csv and, if there is one, test.csv."
        )
    root = place.parent if place.is_file() else place
    tables: dict[str, _Table] = {}
    for part, files in by_part.items():
        tables[part] = _Table(label, tables.get("train"))
        for file in files:
            tables[part].read(file)
    train = tables["train"]
    where = {part: table.where for part, table in tables.items()}
    targets, classes, notes = as_targets({part: table.labels for part, table in tables.items()}, where, (), task)
    notes += (*train.notes, *(f"left out, as neither train, test nor val: {other}." for other in others))
    name, source = shown(place.resolve().stem), shown(place)
    if train.image is not None:
        images = {part: _ImagePaths(root, table, targets[part]) for part, table in tables.items()}
        return data_of_images(images, classes, name, source, image_size=image_size, notes=notes)
    if not train.features:
        raise MinimandError(f"{source} has no column beside the label; expected numbers, or paths of images.")
    return data_of_rows(
        {part: (table.numbers(), targets[part]) for part, table in tables.items()}, classes, name, source, notes
    )


def data_of_rows(
    parts: dict[str, tuple[Tensor, Tensor]],
    classes: tuple[str, ...],
    name: str,
    source: str,
    notes: tuple[str, ...] = (),
) -> Data:
    """Data of vectors or other arrays in memory by part, normalized by column where they are vectors (n, d)."""
    whole, aside = with_test(
        {part: _Labelled(*pair) for part, pair in parts.items()},
        lambda rows, i: _Labelled(rows.inputs[i], rows.labels[i]),
    )
    arrays = {part: Arrays(rows.inputs, rows.labels) for part, rows in whole.items()}
    x, y = arrays["train"].inputs, arrays["train"].targets
    facts: dict[str, Any] = {"classes": classes}
    if not classes:
        facts = {"task": "regression", "outputs": 1 if y.ndim == 1 else y.shape[1]}
    if x.ndim == 2 and x.is_floating_point():
        deviation = x.double().std(0, correction=0)
        facts["mean"] = in_single_precision(x.double().mean(0))
        facts["std"] = in_single_precision(torch.where(deviation > 0, deviation, 1.0))
    return Data(
        name,
        arrays["train"],
        arrays["test"],
        tuple(x.shape[1:]),
        validation=arrays.get("validation"),
        source=source + aside,
        notes=notes,
        **facts,
    )


@dataclass(frozen=True)
class _Labelled:
    inputs: Tensor
    labels: Tensor


@dataclass
class _Table:
    """The rows of CSV files with the same columns: numbers and labels, or paths and labels."""

    label_name: str | None
    like: "_Table | None"
    """The table whose columns are expected."""
    columns: list[str] = field(default_factory=list)
    label: int = -1
    image: int | None = None
    features: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rounded: set[int] = field(default_factory=set)
    """The columns of whole numbers that float32 does not hold."""
    labels: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    values: array = field(default_factory=lambda: array("f"))
    files: list[tuple[int, Path, int]] = field(default_factory=list)
    """The number of the first row of each file, the file, and whether a header stands above its rows, 0 or 1."""

    def read(self, file: Path) -> None:
        """Add the rows of a file."""
        rows = _rows(file)
        first = next(rows, None)
        if first is None:
            raise MinimandError(f"{shown(file)} is empty; expected a line for each sample.")
        has_header = not any(_is_number(cell) for cell in first) or first == [str(i) for i in range(len(first))]
        columns = first if has_header else [str(i) for i in range(len(first))]
        expected = self.like.columns if self.like else self.columns
        if expected and columns != expected:
            raise MinimandError(f"{shown(file)} has the columns {', '.join(columns)}; expected {', '.join(expected)}.")
        self.files.append((len(self.labels), file, int(has_header)))
        second = next(rows, None) if has_header else first
        if second is None:
            raise MinimandError(f"{shown(file)} has a header and no rows; expected a line for each sample.")
        if not self.columns:
            self._choose(file, columns, second, has_header)
        self._add(second)
        for row in rows:
            self._add(row)

    def _choose(self, file: Path, columns: list[str], row: list[str], has_header: bool) -> None:
        self.columns = columns
        if not has_header:
            self.notes.append(f"{shown(file)} has no header: its first line is a sample.")
        lower = [column.strip().lower() for column in columns]
        if self.label_name is not None and self.label_name not in columns:
            raise MinimandError(f"label is {self.label_name!r}; {shown(file)} has the columns {', '.join(columns)}.")
        if self.label_name is not None:
            self.label = columns.index(self.label_name)
        elif names := [name for name in LABEL_NAMES if name in lower]:
            self.label = lower.index(names[0])
        else:
            self.label = len(columns) - 1
            self.notes.append(f"the last column, {columns[-1]!r}, is taken as the label (label=...).")
        others = [i for i in range(len(columns)) if i != self.label]
        images = [i for i in others if lower[i] in _IMAGE_NAMES and i < len(row) and _is_image(row[i])]
        self.image = images[0] if images else None
        self.features = [i for i in others if lower[i] not in _INDEX_NAMES or not has_header]
        unused = [i for i in others if i != self.image] if images else sorted({*others} - {*self.features})
        if unused:
            self.notes.append(f"left out of {shown(file)}: {', '.join(repr(columns[i]) for i in unused)}.")

    def _add(self, row: list[str]) -> None:
        if len(row) != len(self.columns):
            raise MinimandError(
                f"{self.where(len(self.labels))} has {len(row)} values; expected {len(self.columns)}: "
                f"{', '.join(self.columns[:10])}."
            )
        if self.image is not None:
            self.paths.append(row[self.image])
        else:
            for i in self.features:
                if not _is_number(row[i]) or not abs(float(row[i])) <= _LARGEST:
                    wrong = (
                        f"column {self.columns[i]!r} has {row[i]!r}" if row[i] else f"{self.columns[i]!r} is missing"
                    )
                    raise MinimandError(
                        f"{self.where(len(self.labels))}: {wrong}; expected a finite number of float32."
                    )
                self.values.append(number := float(row[i]))
                if abs(number) > _EXACT and i not in self.rounded and number.is_integer() and self.values[-1] != number:
                    self._note_rounded(i, row[i])
        self.labels.append(_value(row[self.label].strip()))

    def _note_rounded(self, i: int, text: str) -> None:
        self.rounded.add(i)
        self.notes.append(
            f"{self.columns[i]!r} has {text}, which is kept as {self.values[-1]:.0f}: whole numbers beyond "
            f"{_EXACT:,} are rounded to float32, so ids may coincide."
        )

    def where(self, i: int) -> str:
        """The file and the row of a sample, whose rows are counted from 1 without the header."""
        first, file, _ = max(entry for entry in self.files if entry[0] <= i)
        return f"{shown(file)}, row {i - first + 1}"

    def numbers(self) -> Tensor:
        """The features of all rows that were read, a tensor (rows, features)."""
        return torch.frombuffer(self.values, dtype=torch.float32).view(len(self.labels), -1)


@dataclass(frozen=True)
class _ImagePaths(Undecoded):
    root: Path
    table: _Table
    labels: Tensor

    def content(self, i: int) -> bytes:
        return read_inside(self.root, self.table.paths[i], self.where(i))

    def where(self, i: int) -> str:
        return f"{self.table.where(i)} ({self.table.paths[i]})"


def _rows(file: Path) -> Iterator[list[str]]:
    """The rows of a CSV file, but for empty lines; raises MinimandError where they cannot be read."""
    if not file.is_file():
        raise MinimandError(f"{shown(file)} is no regular file; expected a CSV file.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            head = text.readline(_LONGEST_LINE)
            text.seek(0)
            delimiter = max(_DELIMITERS, key=head.count)
            yield from (row for row in csv.reader(_lines(text, file), delimiter=delimiter, strict=True) if row)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise MinimandError(f"{shown(file)} is no CSV file that can be read ({error}).") from None


def _lines(text: Any, file: Path) -> Iterator[str]:
    number = 0
    while line := text.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE or "\0" in line:
            raise MinimandError(f"line {number} of {shown(file)} is no text of a CSV file.")
        yield line


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _is_image(cell: str) -> bool:
    return Path(cell).suffix.lower() in suffixes()


def _value(cell: str) -> Any:
    """A label as a whole number, a number or a word."""
    if cell.removeprefix("-").isdecimal() and cell.isascii():
        return int(cell) if len(cell) < 19 else cell
    return float(cell) if _is_number(cell) else cell
