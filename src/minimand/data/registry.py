"""Data loaded by name, from folders and from the hub."""

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

from .._support.errors import MinimandError, MissingPackageError, unknown_name
from .._support.names.calls import call_with, parse_call
from .._support.names.registry import Registry, instance_of
from .data import Data
from .files.csv_files import csv_data
from .files.folders import image_folder
from .files.numpy_files import numpy_data
from .files.parquet import parquet
from .files.pictures import shown, suffixes
from .files.splitting import visible
from .hub import hub
from .text.text import text_data, text_of_hub

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""The folder in which the Debian package dataset-fashion-mnist puts the files of Fashion-MNIST."""


@dataclass(frozen=True)
class DataSet:
    """A named data set: the function that reads it, and its references."""

    load: Callable[..., Data]
    """The function that gives the samples; its parameters are the options of the data set."""
    references: tuple[str, ...] = ()
    """The keys of the sources of the data set in references.bib."""


DATA = Registry[DataSet](
    "data set",
    "data",
    f"{__package__}.sets",
    instance_of(DataSet),
    about=lambda data_set: (data_set.load.__doc__ or "").strip().partition("\n")[0],
)
"""The named data sets: one file each in the folder `sets`, or from another package by an entry point."""


def data_set(name: str, *references: str) -> Callable[[Callable[..., Data]], Callable[..., Data]]:
    """A decorator that makes a function the data set of a name, with keys into references.bib."""

    def register(load: Callable[..., Data]) -> Callable[..., Data]:
        DATA.add(name, DataSet(load, references))
        return load

    return register


def is_never_text(name: str) -> bool:
    """Whether a name is that of a data set of images or numbers, which no tokenizer reads."""
    bare = name.partition("(")[0]
    return bare in DATA and "tokens" not in signature(DATA[bare].load).parameters


def list_data() -> dict[str, str]:
    """A line about each named data set, by name."""
    return DATA.lines()


def default_data(tokens: bool = False) -> str:
    """The name of the data set for a first look: Fashion-MNIST if it is on the machine, else the digits.

    For a model that takes tokens it is the sources of Python's standard library.
    """
    if tokens:
        return "python_stdlib"
    return "fashion_mnist" if DEBIAN.is_dir() else "digits"


def load_data(name: str, **options: Any) -> Data:
    """Training and test samples by name.

    Args:
        name: a key of `list_data()`; a folder of images by class; a folder of Parquet, CSV or .npy files, or one of
            them or an .npz file; a text file or a folder of such; or a data set of the hub, `owner/name`. Options may
            stand in the name: `"parity(bits=10)"`, `"table.csv(label='kind')"`. With `tokens` or `context` any file,
            folder or data set of the hub is read as text.
        **options: the options of the data set, such as `data_folder` of cifar10, or those of a reader: `image_size`,
            `label`, `task`.

    Raises:
        MinimandError: unknown name or option; images that cannot be read, or of a single class.
        FileNotFoundError: the folder, or files that should be in it, are missing.
    """
    bare = name.partition("(")[0]
    if bare in DATA:
        options = {**parse_call(name, "data set")[1], **options}
        data = call_with(DATA[bare].load, options, bare)
        return replace(data, references=DATA[bare].references, loaded={"name": bare, **options})
    path, in_name = _path_and_options(name)
    if path is not None:
        reader = text_data if _TEXT & {*in_name, *options} else _reader(path)
        data = call_with(reader, {"data_folder": str(path), **in_name, **options}, reader.__name__)
        for note in data.notes:
            warnings.warn(f"{data.name}: {note}", DataNote, stacklevel=2)
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        bare, in_name = _hub_and_options(name)
        options = {**in_name, **options}
        reader = text_of_hub if _TEXT & {*options} else hub
        data = call_with(reader, {"repository": bare, **options}, "hub")
    elif "/" in name or Path(bare).suffix.lower() in _READERS:
        raise FileNotFoundError(f"no file or folder {name!r}.")
    else:
        error = unknown_name("data set", bare, DATA)
        raise MinimandError(
            f"{error} Nor is there a file or folder {name!r}; a data set of the hub is named owner/name."
        )
    return replace(data, loaded={"name": name, **options})


class DataNote(UserWarning):
    """What was left out or assumed when data were read (`Data.notes`)."""


_TEXT = {"tokens", "context"}
"""The options that say that a file, a folder or a data set of the hub is read as text."""
_READERS = {".csv": csv_data, ".tsv": csv_data, ".parquet": parquet, ".npz": numpy_data, ".npy": numpy_data}
"""The function that reads files of an ending."""
_TEXTS = {".txt", ".md", ".rst", ".tex", ".html", ".xml", ".json", ".jsonl", ".py", ".c", ".h", ".cpp", ".js", ".java"}
"""The endings of files by which a folder without images, tables or arrays is one of texts."""


def _path_and_options(name: str) -> tuple[Path | None, dict[str, Any]]:
    """The file or folder that a name is, options after it apart; None where there is no such."""
    if _exists(name):
        return Path(name).expanduser(), {}
    # Paths and options may both have brackets, as tokens='bpe(512)' does.
    for end in (i for i, letter in reversed([*enumerate(name)]) if letter == "("):
        if _exists(name[:end]):
            return Path(name[:end]).expanduser(), parse_call(f"data{name[end:]}", "data set")[1]
    return None, {}


def _hub_and_options(name: str) -> tuple[str, dict[str, Any]]:
    bare, bracket, rest = name.partition("(")
    return bare, parse_call(f"data({rest}", "data set")[1] if bracket else {}


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # raised for a name that is too long, ~nobody, or a zero byte
        return False


def _reader(path: Path) -> Callable[..., Data]:
    """The function that reads a file or a folder, by what it holds: text where nothing is known of it."""
    if not path.is_dir():
        if path.suffix.lower() in suffixes_of_pictures():
            raise MinimandError(
                f"{shown(path)} is one image; expected a folder of them, or a file {', '.join(_READERS)}."
            )
        return _READERS.get(path.suffix.lower(), text_data)
    below = {Path(name).suffix.lower() for name in _names_below(path) if name[0] != "."}
    if ".parquet" in below:
        return parquet
    if below & _TEXTS and not below & suffixes_of_pictures() and not below & {".csv", ".npy"}:
        return text_data
    if any(inner.is_dir() for inner in visible(path)):
        return image_folder
    return next((_READERS[suffix] for suffix in (".csv", ".npy") if suffix in below), image_folder)


def suffixes_of_pictures() -> frozenset[str]:
    """The endings of image files; without Pillow the usual ones."""
    try:
        return suffixes()
    except MissingPackageError:
        return frozenset((".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"))


def _names_below(path: Path) -> Iterator[str]:
    for _, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from names
