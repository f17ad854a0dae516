"""Studies in several processes: workers are killed, tasks fail, drivers die, and the table is that of one process."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import minimand as mm
from minimand.experiments.queue import FailedTasksError
from minimand.experiments.running import read_study, run_study
from minimand.experiments.study import STUDIES, Column, Study
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


_DRIVER = """
import os, sys, time
from pathlib import Path
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
