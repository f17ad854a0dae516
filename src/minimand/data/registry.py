"""Data loaded by name, from folders and from the hub."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._support.calls import call_with, parse_call
from .._support.errors import MinimandError, unknown_name
from .._support.registry import Registry, instance_of
from .data import Data
from .images import hub, image_folder, parquet

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""The folder in which the Debian package dataset-fashion-mnist puts the files of Fashion-MNIST."""


@dataclass(frozen=True)
class DataSet:
    """A named data set: the function that reads it, and its references."""

    load: Callable[..., Data]
    """The function that gives the samples; its parameters are the options of the data set."""
    references: tuple[str, ...] = ()
    """Keys into references.bib."""


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


def list_data() -> dict[str, str]:
    """A line about each named data set, by name."""
    return DATA.lines()


def default_data() -> str:
    """The name of the data set for a first look: Fashion-MNIST if it is on the machine, else the digits."""
    return "fashion_mnist" if DEBIAN.is_dir() else "digits"


def load_data(name: str, **options: Any) -> Data:
    """Training and test samples by name.

    Args:
        name: a key of `list_data()`; a folder of Parquet files or of images by class; or a data set of the hub,
            `owner/name`. Options may stand in the name: `"parity(bits=10)"`.
        **options: the options of the data set, such as `data_folder` of cifar10.

    Raises:
        MinimandError: unknown name or option; images that cannot be read, or of a single class.
        FileNotFoundError: the folder, or files that should be in it, are missing.
    """
    bare = name.partition("(")[0]
    if bare in DATA:
        options = {**parse_call(name, "data set")[1], **options}
        data = call_with(DATA[bare].load, options, bare)
        return replace(data, references=DATA[bare].references, loaded={"name": bare, **options})
    if Path(name).is_dir():
        reader = parquet if any(Path(name).glob("**/*.parquet")) else image_folder
        data = call_with(reader, {"data_folder": name, **options}, reader.__name__)
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        data = call_with(hub, {"repository": name, **options}, "hub")
    elif "/" in name:
        raise FileNotFoundError(f"no folder {name!r}.")
    else:
        error = unknown_name("data set", bare, DATA)
        raise MinimandError(f"{error} Nor is there a folder {name!r}; a data set of the hub is named owner/name.")
    return replace(data, loaded={"name": name, **options})
