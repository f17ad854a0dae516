"""Studies: published tables, their settings, and what is measured for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from .._support.registry import Registry, instance_of
from .bench import Bench

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scale = Literal["smoke", "cpu", "paper"]
"""The size of a study: seconds, to see that it runs; at most half an hour on two cores; as published."""
SCALES: tuple[Scale, ...] = get_args(Scale)
"""All scales, the smallest first."""

Cell = Mapping[str, Any]
"""All settings of one row of a table, as plain values; they are written beside what was measured."""


@dataclass(frozen=True)
class Measurement:
    """The values measured for a cell with a seed, and the machine that measured them."""

    cell: dict[str, Any]
    seed: int
    values: dict[str, Any]
    """The numbers and words by key; lists where a figure needs them; {"diverged": 1} if the loss was not finite."""
    seconds: float
    environment: dict[str, Any]


Measurements = Sequence[Measurement]
"""Measurements of one study, in the order in which they were made."""
FiguresByCaption = Mapping[str, "Figure"]
"""The figures of a study, by the captions that stand below them."""


@dataclass(frozen=True)
class Column:
    """A column of a table: factor times `values[key]`, with so many digits; or words, as they are."""

    key: str
    heading: str
    digits: int = 2
    factor: float = 1.0
    style: Literal["f", "e"] = "f"
    """The format of numbers: e for numbers of many sizes."""


@dataclass(frozen=True)
class Study:
    """A published table, its settings, its numbers and ours."""

    name: str
    title: str
    about: str
    """The text on what is measured, what the source leaves open, and what was chosen; Markdown."""
    references: tuple[str, ...]
    """Keys into references.bib."""
    cells: Callable[[Scale], Sequence[Cell]]
    """A function that gives the cells of a scale."""
    measure: Callable[[Cell, int, Bench], dict[str, Any]]
    """A function that measures the values of a cell with a seed."""
    labels: tuple[str, ...]
    """The settings that tell the rows of the table apart."""
    columns: tuple[Column, ...]
    """The measured columns of the table, to the right of the labels."""
    published: Callable[[Cell], str] | None = lambda cell: "unknown"
    """A function that gives what the source reports for the first column, at its own scale; None without a source."""
    figures: Callable[[Measurements], FiguresByCaption] = field(default=lambda measurements: {})
    """A function that draws figures of the measurements, by their captions."""


STUDIES: Registry[Study] = Registry(
    "study", "studies", "minimand.studies", instance_of(Study), lambda study: study.title
)
"""Every study by name: those of `minimand.studies`, and those that other packages bring by entry points."""


def register(study: Study) -> None:
    """Put a study into `STUDIES` under its name."""
    STUDIES.add(study.name, study)


def list_studies() -> dict[str, str]:
    """The names of all studies, and their titles."""
    return STUDIES.lines()
