"""What a study is: a published table, its settings, and what is measured for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from .._support.registry import Registry, instance_of
from .bench import Bench

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scale = Literal["smoke", "cpu", "paper"]
"""Seconds, to see that it runs; at most half an hour on two cores; the published size."""
SCALES: tuple[Scale, ...] = get_args(Scale)

Cell = Mapping[str, Any]
"""All the settings of one entry of a table, as plain values: they are kept beside what was measured."""


@dataclass(frozen=True)
class Measurement:
    """What was measured for a cell with a seed, and with what."""

    cell: dict[str, Any]
    seed: int
    values: dict[str, Any]
    """Numbers and words; lists where a figure needs them. {"diverged": 1} for a training whose loss became NaN or
    infinite."""
    seconds: float
    environment: dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A value in a table: factor times values[key], with so many digits; or words, as they are."""

    key: str
    heading: str
    digits: int = 2
    factor: float = 1.0
    style: Literal["f", "e"] = "f"
    """How numbers are written: e for those of many sizes."""


@dataclass(frozen=True)
class Study:
    """A published table, its settings, its numbers and ours."""

    name: str
    title: str
    about: str
    """What is measured, what the source leaves open, and what was chosen; Markdown."""
    references: tuple[str, ...]
    cells: Callable[[Scale], Sequence[Cell]]
    measure: Callable[[Cell, int, Bench], dict[str, Any]]
    """From a cell and a seed to values."""
    labels: tuple[str, ...]
    """The settings that tell the rows of the table apart."""
    columns: tuple[Column, ...]
    published: Callable[[Cell], str] | None = lambda cell: "unknown"
    """What the source reports for the first column, at its own scale; None where there is no source."""
    figures: Callable[[Sequence[Measurement]], Mapping[str, "Figure"]] = field(default=lambda measurements: {})
    """Captions and figures."""


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
