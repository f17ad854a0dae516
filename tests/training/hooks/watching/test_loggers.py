"""Loggers write what the history has, through stops too."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.training.loop.events import EpochDone

RECIPE = mm.Recipe(4, 20)


def _fit(run: Path, *callbacks: object) -> mm.training.FitResult:
    torch.manual_seed(0)
    options = {"recipe": RECIPE, "run": run, "callbacks": callbacks, "progress": False, "checkpoint_every": 0}
    return mm.fit(nn.Linear(2, 2), mm.load_data("nested_rings", samples=100), **options)  # pyright: ignore


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_file_has_a_line_for_each_epoch_after_a_stop_too(tmp_path: Path) -> None:
    def stop(event: object) -> None:
        if isinstance(event, EpochDone) and event.epoch == 1:
            raise KeyboardInterrupt

    log = tmp_path / "log.csv"
    log.write_text("another,training\n")
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "run", mm.CSVLogger(log), stop)
    result = _fit(tmp_path / "run", mm.CSVLogger(log))
    rows = _rows(log)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["test_loss"]) for row in rows] == [record["test_loss"] for record in result.history]


def test_any_function_is_a_logger(tmp_path: Path) -> None:
    epochs: list[int] = []
    _fit(tmp_path / "run", lambda event: epochs.append(event.epoch) if isinstance(event, EpochDone) else None)
    assert epochs == [0, 1, 2, 3]


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path is .*; expected a file in a folder that exists"):
        mm.CSVLogger(tmp_path / "nowhere" / "log.csv")
    with pytest.raises(ValueError, match="path is"):
        mm.CSVLogger(tmp_path)


def test_tensorboard_has_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )

    result = _fit(tmp_path / "run", mm.TensorBoardLogger(tmp_path / "board", every_steps=1))
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    logged = [event.value for event in events.Scalars("epoch/test_loss")]
    assert logged == pytest.approx([record["test_loss"] for record in result.history])
    assert len(events.Scalars("step/loss")) == 20
    with pytest.raises(ValueError, match="every_steps is 0"):
        mm.TensorBoardLogger(tmp_path, every_steps=0)
