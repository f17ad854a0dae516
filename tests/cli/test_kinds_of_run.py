"""Runs on text, on images and on numbers, each with data and commands that are for another kind."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from command_line import refused
from minimand.cli import main

KINDS = {
    "text": ("song.txt(context=16, windows=16)", "gpt_nano(width=8, depth=1)"),
    "images": ("digits", "mlp(width=4, depth=1)"),
    "numbers": ("table.csv(label='y', task='regression')", "mlp(width=4, depth=1)"),
}
DATA = {"text": "song.txt", "images": "digits", "numbers": KINDS["numbers"][0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each kind, and files to predict."""
    place = tmp_path_factory.mktemp("kinds")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        Path("song.txt").write_text("".join(f"{i} bottles of beer on the wall.\n" for i in range(99, 0, -1)))
        with Path("table.csv").open("w") as file:
            rows = [[i, math.sin(i), math.cos(i)] for i in range(60)]
            csv.writer(file).writerows([["a", "b", "y"], *rows])
        np.save("images.npy", np.zeros((2, 1, 8, 8), dtype=np.float32))
        for kind, (data, model) in KINDS.items():
            size = ["--epochs", "1", "--batch-size", "512", "--quiet"]
            main(["train", "--data", data, "--model", model, "--run", kind, *size])
    return place


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["evaluate", "probe", "diagnose"])
def test_data_of_another_kind_are_named_beside_what_the_run_takes(
    command: str, kind: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, kind, "--data", DATA[data]]
    if (kind, data) == ("text", "numbers"):  # any file is read as text, but not with the options of a table
        assert "unknown argument of text_data 'label'" in refused(capsys, *words)
    elif kind != data:
        assert f"{kind} was trained" in refused(capsys, *words)
    elif (command, kind) == ("probe", "numbers"):
        assert "is a regression; probes tell classes apart" in refused(capsys, *words)
    else:
        main(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "text", "song.txt"], "the model is one of text"),
        (["predict", "images", "song.txt"], "song.txt is no readable image"),
        (
            ["predict", "numbers", "song.txt"],
            "song.txt is no array of numbers, but the model takes samples of the shape",
        ),
        (["predict", "numbers", "images.npy"], "inputs have the shape (2, 1, 8, 8)"),
        (["generate", "images"], "images is no run of a language model"),
        (["generate", "numbers"], "numbers is no run of a language model"),
        (["pack", "text", "--output", "text.mm"], "has no thresholds, so there is nothing to pack"),
        (["train", "--run", "images", "--data", "song.txt"], "mlp takes no tokens, but a sample is text"),
        (["train", "--run", "text", "--data", "digits"], "gpt_nano takes tokens, but a sample is no text"),
        (["compare", "--run", "images", "--data", "digits", "--model", "mlp"], "images holds files but no comparison"),
    ],
)
def test_a_command_for_another_kind_of_run_is_refused_in_a_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, *words)
    assert not Path("images/plan.yaml").exists()
