"""Data by name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._support.calls import call_with, parse_call
from .._support.errors import MinimandError, unknown_name
from .data import Data
from .images import cifar10, cifar100, hub, image_folder, parquet
from .sets.digits import digits
from .sets.fashion_mnist import DEBIAN, fashion_mnist
from .sets.synthetic import nested_rings, parity, telgarsky


@dataclass(frozen=True)
class _Entry:
    load: Callable[..., Data]
    references: tuple[str, ...] = ()


_KNOWN = {
    "digits": _Entry(digits, ("alpaydin1998digits",)),
    "fashion_mnist": _Entry(fashion_mnist, ("xiao2017fashion",)),
    "cifar10": _Entry(cifar10, ("krizhevsky2009cifar",)),
    "cifar100": _Entry(cifar100, ("krizhevsky2009cifar",)),
    "nested_rings": _Entry(nested_rings, ("sander2021momentum",)),
    "parity": _Entry(parity),
    "telgarsky": _Entry(telgarsky, ("telgarsky2016benefits",)),
}


def list_data() -> dict[str, str]:
    """The named data sets, each with a line about it."""
    return {name: str(entry.load.__doc__).partition("\n")[0] for name, entry in _KNOWN.items()}


def data_references(name: str) -> tuple[str, ...]:
    """The references of a named data set, without reading it."""
    return _KNOWN[name].references


def default_data() -> str:
    """Fashion-MNIST if it is on the machine, else the digits."""
    return "fashion_mnist" if DEBIAN.is_dir() else "digits"


def load_data(name: str, **options: Any) -> Data:
    """Training and test samples by name.

    Args:
        name: one of `list_data()`; a folder of Parquet files or of images by class; or a data set of the hub,
            `owner/name`. Options may stand in the name: `"parity(bits=10)"`.
        **options: of that data set, such as `data_folder` of cifar10.

    Raises:
        ValueError: unknown name or option; images that cannot be read, or of a single class.
        FileNotFoundError: files that should be in a given folder and are not.
    """
    bare = name.partition("(")[0]
    if bare in _KNOWN:
        _, given = parse_call(name, "data set")
        options = {**given, **options}
        found = call_with(_KNOWN[bare].load, options, bare)
        return replace(found, references=_KNOWN[bare].references, loaded={"name": bare, **options})
    if Path(name).is_dir():
        reader = parquet if any(Path(name).glob("**/*.parquet")) else image_folder
        found = call_with(reader, {"data_folder": name, **options}, reader.__name__)
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        found = call_with(hub, {"repository": name, **options}, "hub")
    elif "/" in name:
        raise FileNotFoundError(f"no folder {name!r}.")
    else:
        error = unknown_name("data set", bare, _KNOWN)
        raise MinimandError(f"{error} Nor is there a folder {name!r}; a data set of the hub is named owner/name.")
    return replace(found, loaded={"name": name, **options})
