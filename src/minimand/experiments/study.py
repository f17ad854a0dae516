"""Studies: published tables, their settings, what is measured for them, and with which means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import torch

from .._support.errors import MinimandError
from .._support.names.registry import Registry, instance_of
from .._support.style import Figure
from ..data import Arrays, Data, load_data
from ..training import Callback
from .statistics.held_out import judged_part

Scale = Literal["smoke", "cpu", "paper"]
"""The size of a study: seconds, to see that it runs; at most half an hour on two cores; as published."""
SCALES: tuple[Scale, ...] = get_args(Scale)

Cell = Mapping[str, Any]
"""All settings of one row of a table, as plain values; they are written beside what was measured."""
Values = dict[str, Any]
"""The numbers and words measured for a cell by key; lists where a figure needs them."""
CallbacksByLabel = Callable[[str], Sequence[Callback]]
"""A function that makes the callbacks of a training from its label."""


@dataclass(frozen=True)
class Bench:
    """The means of a measurement: data, a device, callbacks, and a folder for runs."""

    runs: Path
    """The folder of the runs, from which interrupted trainings go on."""
    data_folder: str | None
    """The folder of the files of named data, or of ImageNet."""
    device: torch.device
    callbacks: CallbacksByLabel

    _loaded: dict[str, Data] = field(default_factory=dict, repr=False)

    def data(self, name: str, train: int | None = None, test: int | None = None, enlarged: int = 1) -> Data:
        """The data of a name, which is read once; or its first `train` training and `test` test samples.

        "imagenet" are the images of 224 pixels in `data_folder`; CIFAR is in `data_folder` or in a folder of its name
        there. Small images can be enlarged by a whole factor, each pixel repeated. Raises MinimandError if there is no
        folder for ImageNet.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        data = self._loaded[name]
        data = replace(data, train=_first(data.train, train), test=_first(data.test, test))
        return data if enlarged == 1 else _enlarge(data, enlarged)

    def data_of(self, cell: Cell) -> Data:
        """The data that a cell names: its `data`, `train`, `test` and `enlarged` are the arguments of `data`.

        Of a text, `text` in the cell are the options of `load_data`, such as `context` and `windows`. While the
        settings of an arm are tuned, a held-out part of the training samples is in place of the test samples.
        """
        if "text" in cell:
            name = f"{cell['data']} {sorted(cell['text'].items())}"
            if name not in self._loaded:
                self._loaded[name] = load_data(cell["data"], **cell["text"])
            return judged_part(self._loaded[name], cell)
        return judged_part(self.data(cell["data"], cell.get("train"), cell.get("test"), cell.get("enlarged", 1)), cell)

    def _load(self, name: str) -> Data:
        if name == "imagenet":
            if self.data_folder is None:
                raise MinimandError(
                    "data_folder is None, but this study needs ImageNet; expected its folder of train/ and val/ images "
                    "(--data-folder)."
                )
            return load_data(self.data_folder, image_size=224)
        if self.data_folder is None or name not in ("cifar10", "cifar100"):
            return load_data(name)
        subfolder = Path(self.data_folder) / name
        return load_data(name, data_folder=str(subfolder) if subfolder.is_dir() else self.data_folder)


def _first(samples: Any, count: int | None) -> Any:
    return samples if count is None else Arrays(samples.inputs[:count], samples.targets[:count])


def _enlarge(data: Data, factor: int) -> Data:
    def larger(samples: Any) -> Arrays:
        return Arrays(samples.inputs.repeat_interleave(factor, 2).repeat_interleave(factor, 3), samples.targets)

    channels, height, width = data.shape
    shape = (channels, factor * height, factor * width)
    return replace(data, train=larger(data.train), test=larger(data.test), shape=shape)


@dataclass(frozen=True)
class Measurement:
    """The values measured for a cell with a seed, and the machine that measured them."""

    cell: dict[str, Any]
    seed: int
    values: Values
    """What was measured; with `diverged` as 1 where the loss, or a value, which is left out then, was not finite."""
    seconds: float
    environment: dict[str, Any]


Measurements = Sequence[Measurement]
"""Measurements of one study, in the order in which they were made."""
FiguresByCaption = Mapping[str, Figure]
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
    """The keys of the study's sources in references.bib."""
    cells: Callable[[Scale], Sequence[Cell]]
    """A function that gives the cells of a scale."""
    measure: Callable[[Cell, int, Bench], Values]
    """A function that measures the values of a cell with a seed."""
    labels: tuple[str, ...]
    """The settings that tell the rows of the table apart."""
    columns: tuple[Column, ...]
    """The measured columns of the table, to the right of the labels."""
    published: Callable[[Cell], str] | None = lambda cell: "unknown"
    """A function that gives what the source reports for the first column, at its own scale; None without a source."""
    figures: Callable[[Measurements], FiguresByCaption] = field(default=lambda measurements: {})
    """A function that draws figures of the measurements, by their captions."""

    def cells_at(self, scale: Scale) -> list[Cell]:
        """The cells of a scale; recipes that name no precision are in float32, whatever the hardware is fast at."""
        return [_settled(cell) for cell in self.cells(scale)]

    def seeds_at(self, scale: Scale) -> int:
        """The number of seeds at a scale where no other is named: three, and one at smoke scale."""
        return 1 if scale == "smoke" else 3

    def plan(self, scale: Scale, seeds: int) -> dict[str, Any] | None:
        """What is written before the first measurement; None for a study that decides nothing."""
        return None

    def own(self, scale: Scale, measurements: Measurements) -> list[Measurement]:
        """The measurements of cells of this scale, without those of settings that the study had before."""
        cells = self.cells_at(scale)
        return [m for m in measurements if m.cell in cells]

    def missing(self, scale: Scale, seeds: int, measurements: Measurements) -> list[tuple[Cell, int]]:
        """The cells and seeds to be measured next, in their order; when all are, there may be more."""
        done = [(m.cell, m.seed) for m in measurements]
        cells = self.cells_at(scale)
        return [(cell, seed) for seed in range(seeds) for cell in cells if (cell, seed) not in done]

    def described(self, cell: Cell, scale: Scale) -> str:
        """The settings of a cell that a line of progress names."""
        return ", ".join(f"{name} {cell[name]}" for name in self.labels)

    def decided(self, scale: Scale, measurements: Measurements) -> list[str]:
        """Lines on what the measurements that were just made decided about those that come next."""
        return []


def _settled(cell: Cell) -> Cell:
    recipe = cell.get("recipe", {}).get("Recipe", {})
    return (
        {**cell, "recipe": {"Recipe": {**recipe, "precision": "fp32"}}} if recipe.get("precision") == "auto" else cell
    )


def _studies_in(module: ModuleType) -> dict[str, Study]:
    return {thing.name: thing for thing in vars(module).values() if isinstance(thing, Study)}


STUDIES: Registry[Study] = Registry(
    "study", "studies", "minimand.studies", instance_of(Study), lambda study: study.title, _studies_in
)
"""Every study by name: each `Study` in a file of `minimand.studies`, and those that other packages bring."""


def list_studies() -> dict[str, str]:
    """The names of all studies, and their titles."""
    return STUDIES.lines()
