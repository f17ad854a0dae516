"""Runs a study: measures what is not measured yet, and keeps the results as JSON."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._support.environment import as_device, default_device, environment
from .._support.errors import MinimandError
from .._support.files import locked, write_whole
from .._support.tables import markdown, spread, table_text
from ..recipes.recipe import as_config, from_config
from ..report.citing import bibliography
from ..report.page import Figures, write_page
from ..training.hooks.nonfinite import NonFiniteLossError
from ..training.loop.events import Callback
from .bench import Bench
from .study import SCALES, Cell, Column, Measurement, Scale, Study, study_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SEEDS: dict[Scale, int] = {"smoke": 1, "cpu": 3, "paper": 3}


@dataclass(frozen=True)
class StudyResult:
    """What has been measured of a study so far."""

    study: Study
    scale: Scale
    measurements: list[Measurement]

    def columns(self) -> list[str]:
        """The heads of the table."""
        published = ["published"] if self.study.published else []
        return [*self.study.labels, *(c.heading for c in self.study.columns), *published]

    def rows(self) -> list[list[str]]:
        """A row for each cell: mean and standard deviation over the seeds."""
        found = []
        for cell in self.study.cells(self.scale):
            measured = [m for m in self.measurements if m.cell == cell]
            if measured:
                labels = [str(cell[name]) for name in self.study.labels]
                values = [_entry(measured, c) for c in self.study.columns]
                published = [self.study.published(cell)] if self.study.published else []
                found.append([*labels, *values, *published])
        return found

    @property
    def note(self) -> str:
        """With what the table was made."""
        expected = len(self.study.cells(self.scale))
        missing = expected - len(self.rows())
        some = f" {missing} of {expected} rows are not measured yet." if missing else ""
        seeds = sorted({m.seed for m in self.measurements})
        hardware = sorted({m.environment["hardware"] for m in self.measurements})
        versions = sorted({m.environment["torch"] for m in self.measurements})
        dates = sorted({m.environment["date"][:10] for m in self.measurements})
        minutes = sum(m.seconds for m in self.measurements) / 60
        spread_ = "mean and standard deviation over seeds" if len(seeds) > 1 else "seed"
        return (
            f"{self.study.name} at {self.scale} scale; {spread_} {', '.join(map(str, seeds))}; {', '.join(hardware)}, "
            f"torch {', '.join(versions)}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {minutes:.0f} min in "
            f"all.{some}"
        )

    def markdown(self) -> str:
        """The table in Markdown, with its note."""
        return f"{markdown(self.columns(), self.rows(), len(self.study.labels))}\n\n{self.note}\n"

    def figures(self) -> dict[str, "Figure"]:
        """Captions and figures."""
        return dict(self.study.figures(self.measurements))

    def __str__(self) -> str:
        return table_text(self.columns(), self.rows(), note=self.note, labels=len(self.study.labels))


def run_study(
    name: str,
    scale: Scale = "cpu",
    seeds: int | None = None,
    run: str | Path | None = None,
    data_folder: str | None = None,
    device: str | torch.device | None = None,
    callbacks: Callable[[str], Sequence[Callback]] = lambda label: (),
    tell: Callable[[str], None] = lambda line: None,
) -> StudyResult:
    """Measure every cell of a study with every seed. The same call goes on where it was.

    Args:
        name: one of `list_studies()`.
        scale: `smoke` takes seconds, `cpu` at most half an hour on two cores, `paper` is the published size.
        seeds: how many; they are 0, 1, ...; by default three, and one at `smoke` scale.
        run: keeps results.json, table.md and report.html; by default runs/studies/<name>-<scale>.
        data_folder: where the files of named data are, such as cifar10's; at `paper` scale, ImageNet's.
        device: by default a GPU where there is one, else the CPU.
        callbacks: makes the callbacks of each training from its label.
        tell: is given a line after each measurement.

    Raises:
        ValueError: unknown study or scale; the folder holds another study, or another process measures there.
    """
    study = study_named(name)
    _check_scale(scale)
    count = _SEEDS[scale] if seeds is None else seeds
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise MinimandError(f"seeds is {seeds!r}; expected an integer of at least 1.")
    place = default_folder(name, scale) if run is None else Path(run)
    where = default_device() if device is None else as_device(device)
    _check_place(place)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place) as free:
        if not free:
            raise MinimandError(f"another process measures in {place}; wait for its end or name another folder.")
        kept = _read(place, study, scale)
        cells = study.cells(scale)
        if others := sum(m.cell not in cells for m in kept):
            tell(f"{others} measurements of other settings stay in {_file(place)} and count for nothing")
        todo = [(cell, seed) for seed in range(count) for cell in cells if not _holds(kept, cell, seed)]
        bench = Bench(place / "runs", data_folder, where, callbacks)
        for i, measurement in enumerate(_measured(study, todo, bench)):
            kept.append(measurement)
            write_whole(_file(place), _json(study, scale, kept))
            tell(f"{i + 1}/{len(todo)}  {_told(study, measurement)}")
        result = _result(study, scale, kept)
        _show(result, place)
    return result


def read_study(name: str, scale: Scale = "cpu", run: str | Path | None = None) -> StudyResult:
    """What has been measured so far.

    Raises:
        FileNotFoundError: nothing; ValueError: the folder holds another study.
    """
    study = study_named(name)
    _check_scale(scale)
    place = default_folder(name, scale) if run is None else Path(run)
    result = _result(study, scale, _read(place, study, scale))
    if not result.measurements:
        raise FileNotFoundError(
            f"no results of {name} in {place}; `minimand study run {name} --scale {scale}` measures them."
        )
    return result


def default_folder(name: str, scale: Scale) -> Path:
    """runs/studies/<name>-<scale>."""
    return Path("runs/studies") / f"{name}-{scale}"


def _check_scale(scale: Any) -> None:
    if scale not in SCALES:
        raise MinimandError(f"scale is {scale!r}; expected {', '.join(map(repr, SCALES))}.")


def _check_place(place: Path) -> None:
    """Raise ValueError if the folder holds anything but a study."""
    started = (_file(place), place / "runs")
    if place.is_dir() and any(place.iterdir()) and not any(path.exists() for path in started):
        raise MinimandError(f"{place} holds files but no study; name an empty or a new folder.")


def _result(study: Study, scale: Scale, kept: Sequence[Measurement]) -> StudyResult:
    cells = study.cells(scale)
    return StudyResult(study, scale, [m for m in kept if m.cell in cells])


def _show(result: StudyResult, place: Path) -> None:
    """Write table.md and report.html."""
    study, figures = result.study, Figures()
    write_whole(place / "table.md", result.markdown())
    content = {
        "title": study.title,
        "about": study.about.split("\n\n"),
        "labels": len(study.labels),
        "columns": result.columns(),
        "rows": result.rows(),
        "note": result.note,
        "figures": figures.embed_all(result.figures),
        "bibliography": bibliography(study),
        "missing": figures.missing,
    }
    write_page("study.html", place / "report.html", content)


def _measured(study: Study, todo: Sequence[tuple[Cell, int]], bench: Bench) -> Iterator[Measurement]:
    for cell, seed in todo:
        began = time.monotonic()
        try:
            values = study.measure(cell, seed, bench)
        except NonFiniteLossError:
            values = {"diverged": 1}
        yield Measurement(dict(cell), seed, values, time.monotonic() - began, environment(bench.device))


def _holds(kept: Sequence[Measurement], cell: Cell, seed: int) -> bool:
    return any(m.cell == cell and m.seed == seed for m in kept)


def _file(place: Path) -> Path:
    return place / "results.json"


def _json(study: Study, scale: Scale, kept: Sequence[Measurement]) -> str:
    # One measurement a line: readable, and a difference shows what was measured anew.
    lines = ",\n".join(json.dumps(asdict(m)) for m in kept)
    return f'{{"study": {json.dumps(study.name)}, "scale": {json.dumps(scale)}, "measurements": [\n{lines}\n]}}\n'


def _read(place: Path, study: Study, scale: Scale) -> list[Measurement]:
    """The measurements that a folder holds."""
    if not _file(place).is_file():
        return []
    try:
        found: Any = json.loads(_file(place).read_text(encoding="utf-8"))
        held = found["study"], found["scale"]
        measurements = [Measurement(**{**m, "cell": _completed(m["cell"])}) for m in found["measurements"]]
    except (ValueError, KeyError, TypeError) as error:
        raise MinimandError(f"{_file(place)} holds no study's results ({error}).") from None
    if held != (study.name, scale):
        raise MinimandError(f"{place} holds {held[0]} at {held[1]} scale; expected {study.name} at {scale} scale.")
    return measurements


def _completed(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell whose recipe has what recipes have been given since, by default."""
    return cell | {"recipe": as_config(from_config(cell["recipe"]))} if "recipe" in cell else cell


def _entry(measured: Sequence[Measurement], column: Column) -> str:
    found = [m.values[column.key] for m in measured if column.key in m.values]
    if not found:
        return "diverged" if any("diverged" in m.values for m in measured) else ""
    if isinstance(found[0], str):
        return ", ".join(dict.fromkeys(found))
    values = [column.factor * value for value in found]
    lost = len(measured) - len(values)
    exact = all(value == values[0] for value in values)
    mean = (
        f"{statistics.mean(values):,.{column.digits}{column.style}}"
        if exact
        else spread(values, column.digits, column.style)
    )
    return mean + (f" ({lost} of {len(measured)} diverged)" if lost else "")


def _told(study: Study, measurement: Measurement) -> str:
    settings = ", ".join(f"{name} {measurement.cell[name]}" for name in study.labels)
    values = ", ".join(f"{c.heading} {_entry([measurement], c)}" for c in study.columns)
    return f"{settings}, seed {measurement.seed}: {values} ({measurement.seconds:.0f} s)"
