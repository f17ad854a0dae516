import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.cli import main
from minimand.experiments.reopen import load_run
from minimand.training.loop.events import Event, StepDone, Warned
from minimand.training.runs import checkpoint as checkpoints
from minimand.training.runs.checkpoint import CheckpointError
from minimand.training.runs.run import Run, RunError
from warm_python import DRAWING, PRELOADED

RECIPE = mm.Recipe(epochs=3, batch_size=20, optimizer=mm.SGD(lr=0.02), ema=0.9, precision="fp32")


def _model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = mm.create_model("mlp", "heavy_ball(momentum=Learnable(0.5, 0, 1))", in_channels=2, num_classes=2, width=8)
    model.head.module = nn.Sequential(nn.Dropout(0.3), model.head.module)  # random numbers in training
    return model


def _data() -> mm.Data:
    return mm.load_data("nested_rings", samples=100)


class _Stop(Exception):
    pass


def _stop_at(*steps: int):
    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step in steps:
            raise _Stop

    return stop


def _same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_run_goes_on_to_the_same_bits(tmp_path: Path, every: float) -> None:
    """Stopped in the middle of epochs; with checkpoints after each step, or only at the ends of epochs."""
    whole = mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "whole"))
    # With a checkpoint after each step all comes from it, whatever model is given then.
    other = 0 if every else 9
    for seed, stop in ((0, 3), (other, 8), (other, 13)):
        with pytest.raises(_Stop):
            mm.fit(
                _model(seed),
                _data(),
                recipe=RECIPE,
                run=str(tmp_path / "parts"),
                callbacks=[_stop_at(stop)],
                checkpoint_every=every,
            )
    parts = mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "parts"))
    assert _same(whole.model, parts.model)
    assert parts.test_loss == whole.test_loss
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    for a, b in zip(*lines, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}


class _Noisy(TensorDataset):
    """Random transforms, by torch, numpy and Python, in the process that trains."""

    def __getitem__(self, i: int) -> Any:
        x, y = super().__getitem__(i)
        return x + torch.rand(1) + np.random.rand() + random.random(), y


@pytest.mark.parametrize("kind", ["loader", "data set"])
def test_random_transforms_go_on_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    x = torch.randn(60, 2)
    noisy = _Noisy(x, (x[:, 0] > 0).long())
    train: Any = DataLoader(noisy, batch_size=10, shuffle=True) if kind == "loader" else noisy
    recipe = mm.Recipe(epochs=2, batch_size=10, optimizer=mm.SGD(lr=0.01))

    def go(folder: str, **more: Any) -> nn.Module:
        run = str(tmp_path / folder)
        return mm.fit(
            _model(), (train, (x, noisy.tensors[1])), recipe=recipe, run=run, checkpoint_every=0, **more
        ).model

    whole = go("whole")
    for stop in (2, 9):
        with pytest.raises(_Stop):
            go("parts", callbacks=[_stop_at(stop)])
    assert _same(go("parts"), whole)


def test_mixed_and_augmented_batches_go_on_to_the_same_bits(tmp_path: Path) -> None:
    part = (torch.rand(60, 1, 8, 8), torch.arange(60) % 3)
    augmentation = mm.Augmentation(pad=1, flip=True, cutout=2, randaugment=9, erase=0.5)
    recipe = mm.Recipe(2, 10, mm.SGD(lr=0.1), mixup=0.8, cutmix=1.0, label_smoothing=0.1, augmentation=augmentation)

    def go(folder: str, **more: Any) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        run = tmp_path / folder
        return mm.fit(model, (part, part), recipe=recipe, run=run, checkpoint_every=0, **more).model

    whole = go("whole")
    for stop in (2, 9):
        with pytest.raises(_Stop):
            go("parts", callbacks=[_stop_at(stop)])
    assert _same(go("parts"), whole)


class _Drawing(nn.Module):
    """Draws from numpy and from Python in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * (1 + 0.1 * np.random.rand() + 0.1 * random.random())


def test_other_generators_go_on_to_the_same_bits(tmp_path: Path) -> None:
    x = torch.randn(60, 2)
    part = TensorDataset(x, (x[:, 0] > 0).long())

    def go(folder: str, start: int, **more: Any) -> nn.Module:
        torch.manual_seed(0)
        model = _Drawing()
        np.random.seed(start)
        random.seed(start)
        own = torch.Generator().manual_seed(start)
        train = DataLoader(part, batch_size=10, shuffle=True, generator=own)
        recipe = mm.Recipe(epochs=2, optimizer=mm.SGD(lr=0.01))
        run = tmp_path / folder
        return mm.fit(model, (train, part), recipe=recipe, run=run, checkpoint_every=0, **more).model

    whole = go("whole", 0)
    for start, stop in ((1, 2), (2, 9)):
        with pytest.raises(_Stop):
            go("parts", start, callbacks=[_stop_at(stop)])
    assert _same(go("parts", 3), whole)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "run"))
    steps: list[Event] = []
    again = mm.fit(_model(1), _data(), recipe=RECIPE, run=str(tmp_path / "run"), callbacks=[steps.append])
    assert not [e for e in steps if isinstance(e, StepDone)]
    assert _same(first.model, again.model)
    assert again.test_loss == first.test_loss


def test_a_run_s_folder_explains_itself(tmp_path: Path) -> None:
    result = mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "run"))
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "checkpoints",
        "report.html",
    }
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["algorithm"] == "heavy_ball(step_size=1.0, momentum=Learnable(0.5, low=0, high=1))"
    assert config["recipe"]["Recipe"]["epochs"] == 3
    assert config["data"] == {"name": "nested_rings", "samples": 100}
    assert {"torch", "hardware", "date"} <= config["environment"].keys()
    assert result.run is not None
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history
    assert [record["epoch"] for record in result.history] == [1, 2, 3]
    assert len(checkpoints.paths(result.run.checkpoints)) == 2


def test_a_cut_checkpoint_is_passed_over(tmp_path: Path) -> None:
    whole = mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "run"))
    newest = checkpoints.paths(tmp_path / "run" / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    events: list[Event] = []
    again = mm.fit(_model(1), _data(), recipe=RECIPE, run=str(tmp_path / "run"), callbacks=[events.append])
    assert any(isinstance(e, Warned) and "cut short" in e.message for e in events)
    assert _same(whole.model, again.model)


def test_no_readable_checkpoint_is_an_error(tmp_path: Path) -> None:
    mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "run"))
    for path in checkpoints.paths(tmp_path / "run" / "checkpoints"):
        path.write_bytes(b"\x10")
    with pytest.raises(CheckpointError, match=r"is cut short or no checkpoint.*Delete the folder .*checkpoints"):
        mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "run"))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    def plain(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, outputs))

    recipe = mm.Recipe(1, 20)
    mm.fit(plain(2), _data(), recipe=recipe, run=str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"is of another model: 2.bias is \(3,\) here and \(2,\) there"):
        mm.fit(plain(3), _data(), recipe=recipe, run=str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": mm.Recipe(epochs=4)}, "recipe.Recipe.epochs was 3 and is 4"),
        ({"seed": 5}, "seed was 0 and is 5"),
        ({"model": "nesterov"}, "model.algorithm was 'heavy_ball"),
    ],
)
def test_a_run_of_something_else_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "run"))
    if "model" in change:
        change["model"] = mm.create_model("mlp", change["model"], in_channels=2, num_classes=2, width=8)
    with pytest.raises(RunError, match=message):
        mm.fit(**{"model": _model(), "data": _data(), "recipe": RECIPE, "run": str(tmp_path / "run"), **change})


def _given(shift: float = 0.0) -> Any:
    x = torch.linspace(-1, 1, 80).view(40, 2)
    part = (x + shift, (x[:, 0] > 0).long())
    return part, part


def _scheduled(momentum: float) -> nn.Module:
    torch.manual_seed(0)
    return mm.create_model("mlp", mm.algorithms.HeavyBall(momentum=lambda k: momentum), in_channels=2, num_classes=2)


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({"data": _given()}, {"data": _given(0.1)}, "data"),
        ({"loss": lambda o, y: (o**2).mean()}, {"loss": lambda o, y: (o**2).sum()}, "loss"),
        ({"model": lambda: _scheduled(0.0)}, {"model": lambda: _scheduled(0.9)}, "algorithm"),
    ],
)
def test_code_and_tensors_that_changed_are_noticed(tmp_path: Path, before: Any, after: Any, what: str) -> None:
    def go(changes: dict[str, Any]) -> mm.training.FitResult:
        arguments = {"data": _given(), "recipe": mm.Recipe(1, 20), "run": tmp_path / "run", **changes}
        return mm.fit(**{**arguments, "model": changes.get("model", _model)()})

    first = go(before)
    assert go(before).test_loss == first.test_loss
    with pytest.raises(RunError, match=f"another configuration: the {what} is not what it was"):
        go(after)


def test_what_cannot_be_told_apart_is_said(tmp_path: Path) -> None:
    (x, y), _ = _given()
    data = (DataLoader(TensorDataset(x, y), batch_size=20), (x, y))
    events: list[Event] = []
    for _ in range(2):
        events.clear()
        mm.fit(_model(), data, recipe=mm.Recipe(1, 20), run=tmp_path / "run", callbacks=[events.append])
    assert [e.message for e in events if isinstance(e, Warned)] == [
        "whether the data is what it was when the run began cannot be told."
    ]


def test_a_run_that_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        mm.fit(nn.Linear(3, 2), _data(), recipe=RECIPE, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    mm.fit(nn.Linear(2, 2), _data(), recipe=RECIPE, run=tmp_path / "run")


def test_a_run_without_a_checkpoint_may_begin_anew(tmp_path: Path) -> None:
    with pytest.raises(_Stop):
        mm.fit(_model(), _data(), recipe=RECIPE, run=tmp_path / "run", callbacks=[_stop_at(2)])
    assert (tmp_path / "run" / "config.yaml").is_file()
    mm.fit(_model(), _data(), recipe=mm.Recipe(1, 20), run=tmp_path / "run")
    assert Run.existing(tmp_path / "run").config()["recipe"]["Recipe"]["epochs"] == 1


def test_one_process_at_a_time_in_a_folder(tmp_path: Path) -> None:
    met: list[str] = []

    def meet(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            code = "import sys; from minimand.training import Run; Run(sys.argv[1]).claimed().__enter__()"
            command = [sys.executable, "-c", code, str(tmp_path / "run")]
            process = subprocess.run(command, capture_output=True, text=True)
            met.append(process.stderr)

    mm.fit(_model(), _data(), recipe=RECIPE, run=tmp_path / "run", callbacks=[meet])
    assert "another process trains in" in met[0]
    mm.fit(_model(), _data(), recipe=RECIPE, run=tmp_path / "run")  # the end lets go


@pytest.mark.parametrize("step", [13, 15])
def test_broken_weights_never_replace_good_ones(tmp_path: Path, step: int) -> None:
    """In the middle of an epoch and by the very last update; what is there stays good, and the log JSON."""
    model = _model()

    def break_it(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            next(model.parameters()).data.fill_(torch.nan)

    with pytest.raises(mm.training.NonFiniteLossError, match=r"which an earlier update made NaN|after epoch 3"):
        mm.fit(model, _data(), recipe=mm.Recipe(3, 20), run=tmp_path / "run", callbacks=[break_it], checkpoint_every=0)
    paths = checkpoints.paths(tmp_path / "run" / "checkpoints")
    assert paths
    for path in paths:
        loaded = checkpoints.load(path)
        assert all(t.isfinite().all() for t in loaded.tensors["model"].values())
        assert loaded.state["step"] < step or step == 13
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_buffer_may_be_infinite(tmp_path: Path) -> None:
    class Masked(nn.Linear):
        mask: torch.Tensor

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input.maximum(self.mask))

    model = Masked(2, 2)
    model.register_buffer("mask", torch.full((2,), -torch.inf))
    mm.fit(model, _data(), recipe=RECIPE, run=tmp_path / "run")


def test_a_checkpoint_that_lacks_a_part_is_named(tmp_path: Path) -> None:
    written = checkpoints.Checkpoint({"model": {"w": torch.ones(1)}, "random": {"cpu": torch.ones(1)}}, {"step": 1})
    path = checkpoints.save(written, tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"lacks config, .*another version of minimand"):
        checkpoints.load(path)


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        Run.existing(tmp_path / "nothing")
    with pytest.raises(RunError, match="holds no config.yaml"):
        Run.existing(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds files but no run"):
        mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "config.yaml").write_text("just: [a, b")
    with pytest.raises(RunError, match="does not begin with a checksum"):
        Run.existing(tmp_path).config()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write the run to .*file/run"):
        mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "file" / "run"))


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: Any) -> None:
    """What a write that fails leaves: the last good checkpoint, and nothing half-written."""
    folder = tmp_path / "run"
    with pytest.raises(_Stop):
        mm.fit(_model(), _data(), recipe=RECIPE, run=str(folder), callbacks=[_stop_at(7)])
    paths = checkpoints.paths(folder / "checkpoints")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device.*the last good one is {paths[-1].name}"):
        mm.fit(_model(), _data(), recipe=RECIPE, run=str(folder))
    assert sorted((folder / "checkpoints").iterdir()) == paths
    monkeypatch.undo()
    whole = mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "whole"))
    assert _same(mm.fit(_model(), _data(), recipe=RECIPE, run=str(folder)).model, whole.model)


def test_a_run_is_opened_again(tmp_path: Path) -> None:
    model = mm.create_model("mlp", "nesterov", in_channels=2, num_classes=2, width=8)
    result = mm.fit(model, _data(), recipe=RECIPE, run=str(tmp_path / "run"))
    opened = load_run(str(tmp_path / "run"))
    assert (opened.step, opened.notes) == (15, ())
    assert _same(opened.model, result.model)
    assert opened.recipe == RECIPE


def test_a_run_of_tensors_is_opened_without_its_data(tmp_path: Path) -> None:
    part = (torch.randn(40, 2), torch.arange(40) % 2)
    model = mm.create_model("mlp", in_channels=2, num_classes=2)
    mm.fit(model, (part, part), recipe=mm.Recipe(1, 20), run=str(tmp_path / "run"))
    opened = load_run(str(tmp_path / "run"))
    assert opened.classes == ("0", "1")
    with pytest.raises(RunError, match="the data of .* came from Python code"):
        _ = opened.data


def test_checkpoints_hold_tensors_and_plain_data_only(tmp_path: Path) -> None:
    """What is loaded cannot run code: safetensors and JSON."""
    mm.fit(_model(), _data(), recipe=RECIPE, run=str(tmp_path / "run"))
    for path in checkpoints.paths(tmp_path / "run" / "checkpoints"):
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        json.loads(header["__metadata__"]["state"])
        assert {key.partition("/")[0] for key in header if key != "__metadata__"} == {
            "model", "optimizer", "random", "average",
        }  # fmt: skip


_TRAIN = [
    *(sys.executable, "-m", "minimand", "train", "--quiet", "--checkpoint-every", "0", "--data", "nested_rings"),
    *("--model", "mlp(width=16, depth=6)", "--epochs", "12", "--batch-size", "80"),
    *("--algorithm", "heavy_ball(momentum=Learnable(0.5, 0, 1))"),
]


def test_random_kills_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at 5 random moments, resumed each time: the end is that of an uninterrupted run, to the bit."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Start-up would take most of a process's life: they are forked from one that has imported everything.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        [f"minimand.{p}" for p in ("cli", "data", "models", "training")] + [*PRELOADED, *DRAWING]
    )

    def start(folder: Path) -> BaseProcess:
        process = processes.Process(target=main, args=([*_TRAIN[3:], "--run", str(folder)],))
        process.start()
        return process

    def finish(folder: Path) -> checkpoints.Checkpoint:
        process = start(folder)
        process.join()
        assert process.exitcode == 0
        return checkpoints.load(checkpoints.paths(folder / "checkpoints")[-1])

    for moment in torch.rand(5, generator=torch.Generator().manual_seed(0)).tolist():
        process = start(tmp_path / "killed")
        _wait_for_progress(tmp_path / "killed", process)
        time.sleep(0.1 * moment)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    finished = [finish(tmp_path / name) for name in ("whole", "killed")]
    for section in ("model", "optimizer", "random"):
        a, b = (f.tensors[section] for f in finished)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)
    assert finished[0].state["step"] == finished[1].state["step"]


def _wait_for_progress(folder: Path, process: BaseProcess) -> None:
    def mark() -> list[str]:
        return sorted(p.name for p in folder.glob("checkpoints/*"))

    before = mark()
    while process.is_alive() and mark() == before:
        time.sleep(0.005)


def test_an_interrupt_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [*_TRAIN, "--run", str(tmp_path / "run"), "--epochs", "500"]
    command[command.index("--checkpoint-every") + 1] = "1000"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob("run/checkpoints/*.safetensors")):  # the end of the first epoch
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"minimand train --run {tmp_path}/run goes on" in errors.decode()
    saved = checkpoints.load(checkpoints.paths(tmp_path / "run" / "checkpoints")[-1]).state["step"]
    assert saved >= 50


def test_a_folder_in_the_place_of_the_metrics_is_named(tmp_path: Path) -> None:
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(RunError, match="metrics.jsonl is a folder"):
        mm.fit(nn.Linear(2, 2), "nested_rings(samples=20)", recipe=mm.Recipe(1, 4), run=tmp_path / "run")
