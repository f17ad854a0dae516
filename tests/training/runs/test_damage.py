"""What was damaged, copied in, moved or linked is named, and what comes before it is used."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings, strategies as st
from torch import nn

import minimand as mm
from minimand._support.plain_yaml import YamlError, read_yaml
from minimand._support.sealed import sealed_yaml
from minimand.data.conversion import as_data
from minimand.data.description import described
from minimand.training.loop.events import Event, Saved, Warned
from minimand.training.runs import checkpoint as checkpoints
from minimand.training.runs.checkpoint import CheckpointError
from minimand.training.runs.run import Run, RunError


def _train(folder: Path, model_seed: int = 0, callbacks: Any = (), **more: Any) -> mm.training.FitResult:
    torch.manual_seed(model_seed)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    recipe = mm.Recipe(epochs=3, batch_size=50, optimizer=mm.SGD(lr=0.02))
    return mm.fit(
        model, mm.load_data("nested_rings", samples=100), recipe=recipe, run=folder, callbacks=callbacks, **more
    )


def _goes_on(folder: Path) -> tuple[mm.training.FitResult, str]:
    """The result of the same call again, from other first weights, and what it warns of."""
    events: list[Event] = []
    result = _train(folder, model_seed=9, callbacks=[events.append])
    return result, " ".join(e.message for e in events if isinstance(e, Warned))


def _same(a: mm.training.FitResult, b: mm.training.FitResult) -> bool:
    states = a.model.state_dict().values(), b.model.state_dict().values()
    return all(map(torch.equal, *states)) and a.test_loss == b.test_loss


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, mm.training.FitResult]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, _train(folder)


@pytest.fixture
def run(trained: tuple[Path, mm.training.FitResult], tmp_path: Path) -> tuple[Path, mm.training.FitResult]:
    """A copy of a finished run that may be damaged, and its result."""
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run", trained[1]


def _newest(folder: Path) -> Path:
    return checkpoints.paths(folder / "checkpoints")[-1]


def _flip(path: Path, place: float, mask: int) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= mask
    path.write_bytes(content)


MASKS, PLACES = st.integers(1, 255), st.floats(0, 1, exclude_max=True)


@settings(max_examples=300, deadline=None)
@given(place=PLACES, mask=MASKS, cut=st.sampled_from([0, 0, 0, 1, 8, 100]), more=st.sampled_from([b"", b"", b"\0"]))
def test_every_change_of_a_checkpoint_is_noticed(
    trained: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory, place: float, mask: int, cut: int, more: bytes
) -> None:
    newest = _newest(trained[0])
    copy = tmp_path_factory.getbasetemp() / newest.name
    copy.write_bytes(newest.read_bytes()[: -cut or None] + (b"" if cut else more))
    if not (cut or more):
        _flip(copy, place, mask)
    with pytest.raises(CheckpointError, match="cut short"):
        checkpoints.load(copy)


@pytest.mark.parametrize("place", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_the_checkpoint_before_a_damaged_one_is_used(run: tuple[Path, Any], place: float) -> None:
    folder, whole = run
    _flip(_newest(folder), place, 1)
    result, warnings = _goes_on(folder)
    assert _newest(folder).name in warnings
    assert "The one before it is used." in warnings
    assert _same(result, whole)
    assert _goes_on(folder)[1] == ""


def test_a_later_checkpoint_that_was_passed_over_does_not_outlive_newer_ones(run: tuple[Path, Any]) -> None:
    folder, whole = run
    _newest(folder).rename(folder / "checkpoints" / "000000900.safetensors")
    result, warnings = _goes_on(folder)
    assert "is of step 6" in warnings
    assert [int(p.stem) for p in checkpoints.paths(folder / "checkpoints")] == [4, 6]
    assert _same(result, whole)


def test_a_checkpoint_of_another_run_is_refused_by_its_name(run: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = run
    _train(tmp_path / "other one", model_seed=5)
    shutil.copy(_newest(tmp_path / "other one"), folder / "checkpoints")
    before = sorted((folder / "checkpoints").iterdir())
    with pytest.raises(CheckpointError, match=r"is a checkpoint of the run other_one-\w+, not of run-\w+"):
        _train(folder)
    assert sorted((folder / "checkpoints").iterdir()) == before
    shutil.move(tmp_path / "other one", tmp_path / "moved")
    assert _goes_on(tmp_path / "moved")[1] == "", "a run that was moved knows its own"


@pytest.mark.parametrize("change", [{"step": 0}, {"step": 7}, {"history": 3}, {"optimizer": {"a": 1}}, {"hooks": []}])
def test_a_state_that_does_not_fit_is_a_checkpoint_error(run: tuple[Path, Any], change: dict[str, Any]) -> None:
    """With a right checksum, as a program that writes such files could give it."""
    folder, _ = run
    for path in checkpoints.paths(folder / "checkpoints"):
        contents = checkpoints.load(path)
        changed = checkpoints.Checkpoint(contents.tensors, contents.state | change)
        checkpoints.save(changed, folder / "changed", int(path.stem))
    shutil.rmtree(folder / "checkpoints")
    (folder / "changed").rename(folder / "checkpoints")
    with pytest.raises(CheckpointError, match="is of step|not one of this training"):
        _train(folder)


def test_missing_tensors_of_the_optimizer_are_noticed(run: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, whole = run
    contents = checkpoints.load(_newest(folder))
    counts = contents.state["tensors"]
    monkeypatch.setattr(checkpoints, "_counts", lambda tensors: counts)
    checkpoints.save(
        checkpoints.Checkpoint({**contents.tensors, "optimizer": {}}, contents.state), folder / "checkpoints", 6
    )
    monkeypatch.undo()
    result, warnings = _goes_on(folder)
    assert "'optimizer': 4" in warnings
    assert _same(result, whole)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _changed(path: Path) -> None:
    _flip(path, 0.5, 1)


def _deleted(path: Path) -> None:
    path.unlink()


def _linked(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_bytes(b"mine, and longer than all that is written here" * 100)
    path.unlink()
    path.symlink_to(outside)


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: list[Callable[[Path], None]] = [_emptied, _cut, _changed, _deleted, _linked, _a_pipe]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "report.html"])
def test_damaged_files_beside_the_checkpoints_are_written_again(
    run: tuple[Path, Any], name: str, damage: Callable[[Path], None]
) -> None:
    folder, whole = run
    before = (folder / name).read_bytes()
    damage(folder / name)
    result, warnings = _goes_on(folder)
    assert _same(result, whole)
    assert (name in warnings) == (name != "report.html")
    assert not (folder / name).is_symlink()
    after = (folder / name).read_bytes()
    assert name == "report.html" or after == before
    outside = folder.parent / "outside"
    assert not outside.exists() or outside.read_bytes().startswith(b"mine")
    assert _goes_on(folder)[1] == ""


def test_a_run_without_its_checkpoints_says_that_it_begins_again(run: tuple[Path, Any]) -> None:
    folder, _ = run
    shutil.rmtree(folder / "checkpoints")
    assert "metrics.jsonl has epochs and" in _goes_on(folder)[1]
    assert _goes_on(folder)[1] == ""


def test_a_link_in_place_of_the_checkpoints_is_not_followed(run: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = run
    shutil.move(folder / "checkpoints", tmp_path / "elsewhere")
    (folder / "checkpoints").symlink_to(tmp_path / "elsewhere")
    before = {p: p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()}
    with pytest.raises(RunError, match="checkpoints is a link"):
        _train(folder)
    assert {p: p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()} == before


def _away(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


def _away_for_another(folder: Path) -> None:
    _away(folder)
    folder.mkdir()


@pytest.mark.parametrize("take", [_away, _away_for_another, shutil.rmtree])
@pytest.mark.parametrize("number", [1, 3])
def test_a_folder_that_is_taken_away_ends_the_run(tmp_path: Path, take: Callable[[Path], None], number: int) -> None:
    saved: list[Event] = []

    def watch(event: Event) -> None:
        if isinstance(event, Saved):
            saved.append(event)
            if len(saved) == number:
                take(tmp_path / "run")

    with pytest.raises((RunError, OSError), match=r"was moved or deleted while it trained|No such file"):
        _train(tmp_path / "run", callbacks=[watch])
    assert not (tmp_path / "run" / "checkpoints").exists()
    if (tmp_path / "away").exists():
        assert _same(_goes_on(tmp_path / "away")[0], _train(tmp_path / "whole"))


HOSTILE = {
    "an alias": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "deep": "[" * 5000,
    "no mapping": "- 1\n",
    "no id": "format: run 1\n",
    "another format": "format: run 2\nrun: a\n",
    "a command of text": "format: run 1\nrun: a\ncommand: hello\n",
    "a command of a number": "format: run 1\nrun: a\ncommand: {1: 2}\n",
    "a date that is none": "format: run 1\nrun: 2026-99-99\n",
    "long": "a: 1\n" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_configuration_is_one_error(tmp_path: Path, text: str) -> None:
    for content in (text.encode(), sealed_yaml(text).encode(), text.encode("utf-16"), b"\xff" + text.encode()):
        (tmp_path / "config.yaml").write_bytes(content)
        with pytest.raises(RunError):
            Run.existing(tmp_path).command()


@settings(max_examples=300, deadline=None)
@given(st.text("-:[]{}&*!<>|'\"#%@,?~ \n\tab01.\\", max_size=40))
def test_plain_yaml_is_what_safe_yaml_is_or_one_error(text: str) -> None:
    try:
        value = read_yaml(text)
    except YamlError:
        return
    assert repr(value) == repr(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def test_a_table_of_12_000_columns_is_a_run(tmp_path: Path) -> None:
    x, y = torch.randn(8, 12_000), torch.arange(8) % 2
    columns = {"mean": tuple(x.double().mean(0).tolist()), "std": tuple(x.double().std(0).tolist())}
    data = replace(as_data(((x, y), (x, y))), **columns)
    mm.fit(nn.Linear(12_000, 2), data, recipe=mm.Recipe(1), run=tmp_path / "run", progress=False)
    assert described(Run(tmp_path / "run").config()["inputs"]).mean == data.mean
