"""Studies are run here: what is not measured yet is measured, and the results are JSON files."""

import hashlib
import json
import math
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .._support.errors import MinimandError
from .._support.files import check_holds, locked, write_whole
from .._support.sealed import SealError, read_sealed_text, sealed_json
from .._support.torch.environment import as_device, environment
from ..report import Figures, bibtex, write_page
from ..training import NonFiniteLossError
from ..training.distributed.world import World
from .deciding.decided import DecisiveResult
from .deciding.decisive import DecisiveStudy
from .statistics.plan import PLAN, completed, keep_plan
from .study import SCALES, STUDIES, Bench, CallbacksByLabel, Cell, Measurement, Scale, Study
from .study_result import StudyResult, column_text
from .tasks.queue import Engine, Queue, as_queue, no_callbacks, only_main
from .tasks.work import Record, Records, Work

_FILE, _BEFORE = "results.json", "results.before.json"  # of which the second is read where the first is damaged
_PARTS = "measurements"  # the folder of those that are not among the results yet
_FORMAT = "study 1"
_LIMIT = 2**28  # the most bytes of a file of results that is read


def run_study(
    name: str,
    scale: Scale = "cpu",
    seeds: int | None = None,
    run: str | Path | None = None,
    data_folder: str | None = None,
    device: str | torch.device | None = None,
    callbacks: CallbacksByLabel = no_callbacks,
    tell: Callable[[str], None] = lambda line: None,
    jobs: int | None = None,
    engine: Engine | None = None,
) -> StudyResult:
    """Measure every cell of a study with every seed. The same call goes on where it was.

    A study with a plan writes plan.yaml first, and refuses a folder with another one.

    Args:
        name: a name of `mm.list_studies()`.
        scale: `smoke` takes seconds, `cpu` at most half an hour on two cores, `paper` is the published size.
        seeds: the number of seeds, which are 0, 1, ...; by default the study's own.
        run: a folder for results.json, table.md and report.html; by default runs/studies/<name>-<scale>.
        data_folder: the folder of the files of named data, such as cifar10's; at `paper` scale, ImageNet's.
        device: by default a GPU where there is one, else the CPU.
        callbacks: makes the callbacks of each training from its label.
        tell: is given a line after each measurement.
        jobs: the most measurements at a time; more than one are made in processes of their own, which share the cores.
        engine: "ray" makes the measurements on a cluster (extra `cluster`), as many at a time as it has room for.

    Raises:
        MinimandError: an unknown study or scale; the folder holds another study, or another process measures there.
        FailedTasksError: measurements failed in other processes; the others are kept.
    """
    study, folder = _study_and_folder(name, scale, run)
    count = study.seeds_at(scale) if seeds is None else seeds
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise MinimandError(f"seeds is {seeds!r}; expected an integer of at least 1.")
    device = as_device(device)
    queue, world = as_queue(jobs, engine, callbacks), World()
    if not world.is_main:
        tell = _tell_nobody
    data_folder = str(Path(data_folder).absolute()) if data_folder else None
    measuring = _Measuring(study, scale, Bench(folder.absolute() / "runs", data_folder, device, callbacks))
    measuring.check()  # before a folder is made; the queue does it again where each process runs
    with ExitStack() as stack:
        world.on_main(lambda: stack.enter_context(_claimed(folder)))
        measurements = world.on_main(lambda: _read(folder, study, scale))
        if (plan := study.plan(scale, count)) is not None:
            world.on_main(lambda: keep_plan(folder, plan))
        if others := len(measurements) - len(study.own(scale, measurements)):
            tell(f"{others} measurements of other settings stay in {folder / _FILE} and count for nothing")
        keeper = _Keeper(measuring, folder, measurements, tell)
        keeper.order(count)
        while missing := study.missing(scale, count, measurements):  # what is measured may decide what comes next
            keeper.measure(queue, missing)
            keeper.order(count)
            for line in study.decided(scale, measurements):
                tell(line)
        result = _result(study, scale, measurements)
        world.on_main(lambda: _write(result, folder))
        return result


def _tell_nobody(line: str) -> None:
    """Say nothing, in processes that are not the main one."""


def read_study(name: str, scale: Scale = "cpu", run: str | Path | None = None) -> StudyResult:
    """The result of what has been measured of a study so far; the arguments are those of `run_study`.

    Raises:
        FileNotFoundError: nothing is measured. MinimandError: the folder holds another study.
    """
    study, folder = _study_and_folder(name, scale, run)
    result = _result(study, scale, _read(folder, study, scale))
    if not result.measurements:
        command = f"minimand study run {name} --scale {scale}" + (f" --run {run}" if run else "")
        raise FileNotFoundError(f"no results of {name} in {folder}; `{command}` measures them.")
    return result


@dataclass(frozen=True)
class _Measuring(Work[tuple[Cell, int]]):
    """The measurement of a cell with a seed."""

    study: Study
    scale: Scale
    bench: Bench

    @property
    def device(self) -> torch.device:
        return self.bench.device

    def do(self, task: tuple[Cell, int], callbacks: CallbacksByLabel) -> Record:
        (cell, seed), began = task, time.monotonic()
        try:
            measured = self.study.measure(cell, seed, replace(self.bench, callbacks=callbacks))
        except NonFiniteLossError:
            measured = {"diverged": 1}
        values = {name: value for name, value in measured.items() if _is_finite(value)}
        if len(values) < len(measured):
            values["diverged"] = 1
        return {"values": values, "seconds": time.monotonic() - began, "environment": environment(self.device)}

    def key(self, task: tuple[Cell, int]) -> str:
        cell, seed = task
        return f"{hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16]}-seed{seed}"

    def label(self, task: tuple[Cell, int]) -> str:
        cell, seed = task
        return f"{self.study.described(cell, self.scale)}, seed {seed}"

    def check(self) -> None:
        folder = self.bench.data_folder
        if folder is not None and not Path(folder).is_dir():
            raise MinimandError(
                f"data_folder is {folder!r}, which is no folder on {platform.node()}; expected one that every worker "
                "sees."
            )


def _is_finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@dataclass
class _Keeper:
    """Takes what was measured into the results of a study, in whatever order it comes."""

    work: _Measuring
    folder: Path
    measurements: list[Measurement]
    tell: Callable[[str], None]

    @property
    def records(self) -> Records:
        """The folder of measurements that are not among the results yet."""
        return Records(self.folder / _PARTS)

    def measure(self, queue: Queue, missing: list[tuple[Cell, int]]) -> None:
        """Measure cells of a study with seeds, and write each measurement as it comes."""
        count = 0

        def keep(task: tuple[Cell, int], record: Record) -> None:
            nonlocal count
            count += 1
            self.measurements.append(Measurement(dict(task[0]), task[1], **record))
            only_main(self._keep)
            only_main(lambda: self.records.remove(self.work.key(task)))
            line = _line(self.work.study, self.work.scale, self.measurements[-1])
            self.tell(f"{count}/{len(missing)}  {line}")

        queue.run(self.work, missing, self.records, keep)

    def order(self, seeds: int) -> None:
        """Put the measurements in the order in which one process makes them, those of other settings first."""
        study, ordered = self.work.study, list[Measurement]()
        while missing := study.missing(self.work.scale, seeds, ordered):
            measured = [m for task in missing for m in self.measurements if (m.cell, m.seed) == task]
            if not measured:
                break
            ordered += measured
        ordered = [*(m for m in self.measurements if m not in ordered), *ordered]
        if self.measurements != ordered:
            self.measurements[:] = ordered
            only_main(self._keep)

    def _keep(self) -> None:
        _keep(self.folder, _json(self.work.study, self.work.scale, self.measurements))


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """A folder in which no other process measures, made if need be; raises MinimandError where it is another's."""
    check_holds(folder, "study", (_FILE, _BEFORE, _PARTS, PLAN, "runs"))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as free:
        if not free:
            raise MinimandError(f"another process measures in {folder}; wait for its end or name another folder.")
        yield


def default_folder(name: str, scale: Scale) -> Path:
    """The folder of a study where no other is named: runs/studies/<name>-<scale>."""
    return Path("runs/studies") / f"{name}-{scale}"


def _study_and_folder(name: str, scale: Any, run: str | Path | None) -> tuple[Study, Path]:
    study = STUDIES.named(name)
    if scale not in SCALES:
        raise MinimandError(f"scale is {scale!r}; expected {', '.join(map(repr, SCALES))}.")
    return study, default_folder(name, scale) if run is None else Path(run)


def _result(study: Study, scale: Scale, measurements: Sequence[Measurement]) -> StudyResult:
    own = study.own(scale, measurements)
    return DecisiveResult(study, scale, own) if isinstance(study, DecisiveStudy) else StudyResult(study, scale, own)


def _write(result: StudyResult, folder: Path) -> None:
    """Write the table of a study, table.md, and its page, report.html, into its folder."""
    study, figures = result.study, Figures()
    write_whole(folder / "table.md", result.markdown())
    content: dict[str, Any] = {
        "title": study.title,
        "about": study.about.split("\n\n"),
        "labels": len(study.labels),
        "claims": None,
        "columns": result.columns(),
        "rows": result.rows(),
        "note": result.note,
        "figures": figures.embed_all(result.figures),
    }
    if isinstance(result, DecisiveResult):
        table = {"columns": result.claim_columns(), "rows": result.claim_rows(), "labels": result.claim_labels}
        content["claims"] = table | {"note": result.about_claims()}
    write_page("study.html", folder / "report.html", content, figures, bibtex(study))


def _json(study: Study, scale: Scale, measurements: Sequence[Measurement]) -> str:
    # One measurement a line: readable, and a difference shows what was measured anew.
    lines = ",\n".join(json.dumps(asdict(m)) for m in measurements)
    head = f'{{"format": "{_FORMAT}", "study": {json.dumps(study.name)}, "scale": {json.dumps(scale)}'
    return sealed_json(f'{head}, "measurements": [\n{lines}\n]}}\n')


def _keep(folder: Path, text: str) -> None:
    """Write the results, and keep those before them, if they are whole."""
    with suppress(SealError, FileNotFoundError):
        write_whole(folder / _BEFORE, read_sealed_text(folder / _FILE, _LIMIT))
    write_whole(folder / _FILE, text)


def _read(folder: Path, study: Study, scale: Scale) -> list[Measurement]:
    """The measurements that a folder holds; where the last results are damaged, those before them, with a warning."""
    problems: list[str] = []
    for file in (folder / _FILE, folder / _BEFORE):
        try:
            measurements = _measurements(file, read_sealed_text(file, _LIMIT), study, scale)
        except FileNotFoundError:
            continue
        except SealError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"{problems[0]} The results before them are used.", stacklevel=4)
        return measurements
    if problems:
        raise MinimandError(f"{' '.join(problems)} Delete {folder / _FILE} to measure again.")
    return []


def _measurements(file: Path, text: str, study: Study, scale: Scale) -> list[Measurement]:
    try:
        content: Any = json.loads(text)
        name, scale_there = content["study"], content["scale"]
        measurements = [Measurement(**{**m, "cell": completed(m["cell"])}) for m in content["measurements"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MinimandError(f"{file} holds no study's results ({error}).") from None
    if content.get("format") != _FORMAT:
        raise MinimandError(f"{file} is of format {content.get('format')!r}; this version reads {_FORMAT!r}.")
    if (name, scale_there) != (study.name, scale):
        raise MinimandError(
            f"{file.parent} holds {name} at {scale_there} scale; expected {study.name} at {scale} scale."
        )
    return measurements


def _line(study: Study, scale: Scale, measurement: Measurement) -> str:
    settings = study.described(measurement.cell, scale)
    texts = [(column.heading, column_text([measurement], column)) for column in study.columns]
    values = ", ".join(f"{heading} {text}" for heading, text in texts if text)  # while tuning not all is measured
    return f"{settings}, seed {measurement.seed}: {values} ({measurement.seconds:.0f} s)"
