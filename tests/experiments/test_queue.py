"""Studies in several processes: workers are killed, tasks fail, drivers die, and the table is that of one process."""

import json
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import minimand as mm
from minimand.experiments.running import read_study, run_study
from minimand.experiments.study import STUDIES, Column, Study
from minimand.experiments.tasks.queue import FailedTasksError, Queue
from minimand.experiments.tasks.ray_workers import RayWorkers
from minimand.experiments.tasks.workers import Package, perform
from minimand.training.loop.events import Saved, StepDone


def _made(place: Path) -> Study:
    """A study of trainings; the file `die` in a place kills the process that trains x = 1 after its second epoch, and
    the file `fail` makes x = 2 fail, once each."""

    def once(name: str) -> bool:
        try:
            (place / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def measure(cell: Any, seed: int, bench: Any) -> dict[str, Any]:
        import torch

        if cell["x"] == 2 and once("fail"):
            raise RuntimeError("out of luck")
        steps = []

        def watch(event: Any) -> None:
            if isinstance(event, StepDone):
                steps.append(event.step)
            if isinstance(event, Saved) and cell["x"] == 1 and len(steps) >= 4 and once("die"):
                os.kill(os.getpid(), signal.SIGKILL)

        torch.manual_seed(seed)
        result = mm.fit(
            torch.nn.Linear(2, 2), bench.data("nested_rings", train=80), recipe=mm.Recipe(epochs=4, batch_size=40),
            run=bench.runs / f"{cell['x']}-seed{seed}", seed=seed, callbacks=[watch], progress=False,
        )  # fmt: skip
        with (place / "trained").open("a") as file:
            file.write(f"{cell['x']} {len(steps)}\n")
        return {"loss": result.test_loss}

    cells = [{"x": x} for x in (1, 2, 3)]
    return Study("made", "Made up", "About.", (), lambda scale: cells, measure, ("x",), (Column("loss", "loss", 6),))


def _results(folder: Path) -> list[Any]:
    """What was measured in a folder, but for its time, in the order of its file."""
    measurements = json.loads((folder / "results.json").read_text())["measurements"]
    return [[m["cell"], m["seed"], m["values"], m["environment"]["hardware"]] for m in measurements]


def _table(folder: Path) -> list[str]:
    return (folder / "table.md").read_text().split("\n\n")[:1]


def test_a_killed_worker_and_a_failing_task_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "made" not in STUDIES
    monkeypatch.setitem(STUDIES._things, "made", _made(tmp_path))
    run_study("made", "smoke", run=tmp_path / "alone")
    whole, table = _results(tmp_path / "alone"), _table(tmp_path / "alone")
    for name in ("die", "fail", "trained"):
        (tmp_path / name).write_text("")
    folder = tmp_path / "several"
    lines: list[str] = []
    with (
        pytest.warns(UserWarning, match=r"worker of x 1, seed 0 was lost \(killed by SIGKILL\); another one does it"),
        pytest.raises(FailedTasksError, match="1 of 3 tasks failed; .* x 2, seed 0: RuntimeError: out of luck"),
    ):
        run_study("made", "smoke", run=folder, jobs=2, tell=lines.append)
    assert "RuntimeError: out of luck" in capfd.readouterr().err  # its traceback
    assert sorted(line.partition(" ")[0] for line in lines) == ["1/3", "2/3"]
    assert len(read_study("made", "smoke", folder).rows()) == 2
    assert run_study("made", "smoke", run=folder).rows()
    assert _results(folder) == whole
    assert _table(folder) == table
    # After its second epoch the first one went on from its checkpoint.
    assert sorted((tmp_path / "trained").read_text().split("\n")) == ["", "1 4", "2 8", "3 8"]
    assert {path.name for path in folder.iterdir()} == {
        "results.json", "results.before.json", "table.md", "report.html", "runs",
    }  # fmt: skip


@pytest.mark.soak
@pytest.mark.filterwarnings("default")
def test_a_killed_worker_of_ray_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra `cluster`")
    assert "made" not in STUDIES
    monkeypatch.setitem(STUDIES._things, "made", _made(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    run_study("made", "smoke", run=tmp_path / "alone")
    for name in ("die", "trained"):
        (tmp_path / name).write_text("")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        with pytest.warns(UserWarning, match="the worker of x 1, seed 0 was lost"):
            run_study("made", "smoke", run=tmp_path / "ray", engine="ray")
    finally:
        ray.shutdown()
    assert _results(tmp_path / "ray") == _results(tmp_path / "alone")
    assert _table(tmp_path / "ray") == _table(tmp_path / "alone")
    assert sorted((tmp_path / "trained").read_text().split("\n")) == ["", "1 4", "2 8", "3 8"]


_DRIVER = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from minimand.experiments.tasks.ray_workers import RayWorkers
from minimand.experiments.running import run_study
from minimand.experiments.study import STUDIES, Column, Study

place = Path(__file__).parent

def measure(cell, seed, bench):
    (place / f"pid{cell['x']}").write_text(str(os.getpid()))
    while cell["x"] == 2 and not (place / "go").exists():
        time.sleep(0.01)
    return {"double": 2 * cell["x"]}

made = Study("made", "Made up", "About.", (), lambda scale: [{"x": 1}, {"x": 2}], measure, ("x",),
             (Column("double", "2 x"),), published=None)
if __name__ == "__main__":
    assert "made" not in STUDIES
    STUDIES.add("made", made)
    run_study("made", "smoke", run=place / "run", jobs=2, tell=lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.soak)])
def test_a_driver_that_ends_takes_its_workers_along_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    driver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with driver:
        assert driver.stdout is not None
        assert driver.stdout.readline().startswith("1/2  x 1, seed 0")
        _wait(lambda: (tmp_path / "pid2").is_file() and (tmp_path / "pid2").read_text() != "")
        driver.send_signal(how)
        errors = driver.communicate()[1]
    assert how == signal.SIGKILL or errors.rstrip().endswith("KeyboardInterrupt")
    _wait(lambda: not _is_alive(int((tmp_path / "pid2").read_text())))
    (tmp_path / "pid1").unlink()
    (tmp_path / "go").touch()
    assert "made" not in STUDIES
    monkeypatch.setitem(STUDIES._things, "made", runpy.run_path(str(script))["made"])
    lines: list[str] = []
    assert run_study("made", "smoke", run=tmp_path / "run", tell=lines.append).rows() == [["1", "2.00"], ["2", "4.00"]]
    assert [line.partition(",")[0] for line in lines] == ["1/1  x 2"]
    assert not (tmp_path / "pid1").exists()


class _Here:
    """Workers that are this process."""

    room = 2

    def __init__(self, package: Package) -> None:
        self.package = package

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *error: object) -> None: ...

    def submit(self, number: int) -> Any:
        future: Any = Future()
        future.set_result(perform(self.package.path, self.package.checksum, number))
        return future

    def interrupt(self) -> None: ...

    def kill(self) -> None: ...


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks are packed, sent and unpacked as for workers, and done in this process, where that costs no start."""
    monkeypatch.setattr(Queue, "_workers", lambda queue, package, work: _Here(package))


_SMALL: dict[str, Any] = {
    "data": "nested_rings(samples=100)",
    "model": "mlp(width=4, depth=3)",
    "recipe": mm.Recipe(epochs=2, batch_size=40),
    "progress": False,
}
_OWN = """
import minimand as mm

class Mine(mm.Algorithm):
    step_size: mm.Coefficient = 1.0

    def start(self, x):
        return x

    def step(self, state, gradient, k):
        return state - self.step_size(k) * gradient(state)

    def read(self, state):
        return state
"""


@pytest.mark.usefixtures("here")
def test_a_comparison_in_several_processes_is_that_of_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(_OWN)
    algorithms: list[Any] = [f"{tmp_path}/mine.py:Mine", mm.algorithms.HeavyBall(momentum=lambda k: 0.5**k)]
    alone = mm.compare(algorithms, seeds=1, tune=2, run=tmp_path / "alone", **_SMALL)
    several = mm.compare(algorithms, seeds=1, tune=2, run=tmp_path / "several", jobs=2, **_SMALL)
    for one, other in zip(alone.entries, several.entries, strict=True):
        assert (one.algorithm, one.losses, one.accuracies, one.diverged, one.chosen) == (
            other.algorithm, other.losses, other.accuracies, other.diverged, other.chosen,
        )  # fmt: skip
    assert not (tmp_path / "several" / "outcomes" / "tasks.pickle").exists()


@pytest.mark.usefixtures("here")
def test_a_search_with_two_jobs_suggests_the_same_whenever_it_is_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules["minimand.experiments.searching.search"], "_conclude", lambda task, trials, *_: trials
    )

    def trials(folder: str, count: int, jobs: int = 2) -> list[Any]:
        search: Any = mm.search(**_SMALL, seeds=1, run=tmp_path / folder, trials=count, jobs=jobs)
        return [(trial.number, trial.method, trial.outcome, trial.loss) for trial in search]

    whole = trials("whole", 9)
    for count in (2, 4, 6, 9):
        parts = trials("parts", count)
    assert parts == whole
    assert len({method for _, method, _, _ in whole}) == 9
    assert trials("alone", 5, jobs=1)[:4] == whole[:4]  # of the same history
    assert not (tmp_path / "whole" / "trials").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": 0}, "jobs is 0; expected an integer, at least 1"),
        ({"jobs": 1.5}, "jobs is 1.5"),
        ({"engine": "dask"}, "engine is 'dask'; expected None, for processes of this machine, or 'ray'"),
        ({"jobs": 2, "callbacks": lambda label: ()}, "jobs is 2, so trainings run in other processes, where callbacks"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    calls: list[Any] = [
        lambda **more: run_study("parity", "smoke", **more),
        lambda **more: mm.compare(["heavy_ball"], **_SMALL, **more),
        lambda **more: mm.search(**_SMALL, **more),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(**arguments, run=tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_under_torchrun_and_without_ray_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'minimand\[cluster\]'"):
        run_study("parity", "smoke", run=tmp_path / "new", engine="ray")
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError, match="jobs is 2 under torchrun, whose processes share each training"):
        mm.compare(["heavy_ball"], **_SMALL, run=tmp_path / "new", jobs=2)
    with pytest.raises(ValueError, match="search under torchrun"):
        mm.search(**_SMALL, run=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_a_worker_does_not_see_is_named(tmp_path: Path) -> None:
    package = tmp_path / "outcomes" / "tasks.pickle"
    reply = perform(str(package), "0", 0)
    assert reply["outcome"] == "unusable"
    assert reply["why"].startswith(f"{package.parent} is not seen by a worker on {platform.node()}")


def _wait(condition: Any) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Whose parent has ended, and who waits for init to read its status, is not.
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_cluster_that_does_not_answer_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))  # taken, but nothing listens
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{other.getsockname()[1]}")
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
        with pytest.raises(ValueError, match=r"RAY_ADDRESS is '127.0.0.1:\d+', where no cluster answers"):
            RayWorkers(Package("", ""), None, torch.device("cpu"))
