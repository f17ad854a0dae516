"""What a named data set is, and the registry of them."""

from collections.abc import Callable
from dataclasses import dataclass

from .._support.registry import Registry, instance_of
from .data import Data


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
