"""Data loaded by name, from folders and from the hub."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from .._support.calls import call_with, parse_call
from .._support.errors import MinimandError, unknown_name
from .data import Data
from .images.folder import image_folder
from .images.hub import hub
from .images.parquet import parquet
from .info import DATA
from .sets.fashion_mnist import DEBIAN


def list_data() -> dict[str, str]:
    """A line about each named data set, by name."""
    return DATA.lines()


def data_references(name: str) -> tuple[str, ...]:
    """The references of a named data set, whose samples are not read for them."""
    return DATA.named(name).references


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
