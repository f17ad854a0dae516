"""Studies are measured once, kept, and gone on with."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minimand._support.files import locked
from minimand._support.sealed import sealed_json
from minimand.experiments.running import read_study, run_study
from minimand.experiments.study import STUDIES, Column, Study
from minimand.training.hooks.watching.nonfinite import NonFiniteLossError


@pytest.fixture
def measured_cells(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A study `made` of three cells; the list tells what was measured, as (cell, seed)."""
    measured: list[tuple[int, int]] = []

    def measure(cell: Any, seed: int, bench: Any) -> dict[str, Any]:
        measured.append((cell["x"], seed))
        if cell["x"] == 3 and seed == 1:
            raise NonFiniteLossError("too large")
        return {"double": 2 * cell["x"] + seed}

    study = Study(
        "made", "Made up", "About.", (), lambda scale: [{"x": x} for x in (1, 2, 3)], measure, ("x",),
        (Column("double", "2 x", 1, 10),), published=lambda cell: str(cell["x"] ** 2),
    )  # fmt: skip
    assert "made" not in STUDIES
    monkeypatch.setitem(STUDIES._things, "made", study)
    return measured


def _reseal(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(sealed_json(change("{" + file.read_text().split('", ', 1)[1])))


def test_the_table_has_mean_spread_and_what_is_published(measured_cells: list, tmp_path: Path) -> None:
    result = run_study("made", "cpu", seeds=2, run=tmp_path)
    assert result.columns() == ["x", "2 x", "published"]
    assert result.rows() == [["1", "25.0 ± 7.1", "1"], ["2", "45.0 ± 7.1", "4"], ["3", "60.0 (1 of 2 diverged)", "9"]]
    assert {p.name for p in tmp_path.iterdir()} >= {"results.json", "table.md", "report.html"}
    assert "| 2 | 45.0 ± 7.1 | 4 |" in (tmp_path / "table.md").read_text()
    assert "seeds 0, 1" in result.note
    assert "45.0 ± 7.1" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("undefined", [math.nan, [0.5, math.inf], [0.5, [math.nan]]])
def test_a_value_that_is_not_finite_is_left_out_wherever_it_stands(
    undefined: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = Study(
        "undefined", "Made up", "About.", (), lambda scale: [{"x": 1}],
        lambda cell, seed, bench: {"double": 2, "curve": [0.5], "other": undefined}, ("x",), (Column("double", "2 x"),),
    )  # fmt: skip
    monkeypatch.setitem(STUDIES._things, "undefined", study)
    (measured,) = run_study("undefined", "cpu", seeds=1, run=tmp_path).measurements
    assert measured.values == {"double": 2, "curve": [0.5], "diverged": 1}


def test_what_is_kept_reads_as_it_was(measured_cells: list, tmp_path: Path) -> None:
    result = run_study("made", "cpu", run=tmp_path)
    again = read_study("made", "cpu", tmp_path)
    assert again.measurements == result.measurements
    assert again.markdown() == result.markdown()


def test_nothing_is_measured_twice(measured_cells: list, tmp_path: Path) -> None:
    run_study("made", "cpu", seeds=1, run=tmp_path)
    run_study("made", "cpu", seeds=2, run=tmp_path)
    assert measured_cells == [(x, seed) for seed in (0, 1) for x in (1, 2, 3)]


def test_a_folder_of_data_that_is_none_is_named_before_anything_is_written(
    measured_cells: list, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="data_folder is '.*nowhere', which is no folder"):
        run_study("made", "cpu", run=tmp_path / "new", data_folder=str(tmp_path / "nowhere"))
    assert not (tmp_path / "new").exists()


def test_an_interrupted_study_goes_on(measured_cells: list, tmp_path: Path) -> None:
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("made", "cpu", seeds=1, run=tmp_path, tell=tell)
    assert "1 of 3 rows are not measured yet" in read_study("made", "cpu", tmp_path).note
    run_study("made", "cpu", seeds=1, run=tmp_path, tell=tell)
    assert measured_cells == [(1, 0), (2, 0), (3, 0)]
    assert " rows " not in read_study("made", "cpu", tmp_path).note
    lines.clear()
    with pytest.raises(KeyboardInterrupt):
        run_study("made", "cpu", seeds=2, run=tmp_path, tell=tell)
    assert "1 of 3 rows do not have all seeds yet" in read_study("made", "cpu", tmp_path).note


def test_a_cell_that_has_changed_is_measured_anew(measured_cells: list, tmp_path: Path) -> None:
    run_study("made", "cpu", seeds=1, run=tmp_path)
    file = tmp_path / "results.json"
    _reseal(file, lambda text: text.replace('"x": 2', '"x": 20'))
    assert len(read_study("made", "cpu", tmp_path).rows()) == 2
    measured_cells.clear()
    lines: list[str] = []
    run_study("made", "cpu", seeds=1, run=tmp_path, tell=lines.append)
    assert measured_cells == [(2, 0)]
    assert lines[0].startswith("1 measurements of other settings stay")
    assert '"x": 20' in file.read_text()
    assert len(read_study("made", "cpu", tmp_path).measurements) == 3


def test_a_recipe_that_has_more_fields_than_then_is_the_same(tmp_path: Path) -> None:
    run_study("parity", "smoke", run=tmp_path)
    file = tmp_path / "results.json"
    text = file.read_text()
    _reseal(file, lambda body: body.replace('"mixup": 0.0, ', ""))
    assert len(file.read_text()) < len(text)
    assert len(read_study("parity", "smoke", tmp_path).rows()) == 6


def test_bad_input_is_named_and_leaves_nothing(measured_cells: list, tmp_path: Path) -> None:
    place = tmp_path / "place"
    bad: list[tuple[dict[str, Any], str]] = [
        ({"name": "maed"}, "made"),
        ({"name": "made", "scale": "gpu"}, "'smoke', 'cpu', 'paper'"),
        ({"name": "made", "seeds": 0}, "seeds is 0"),
        ({"name": "made", "seeds": 1.5}, "seeds is 1.5"),
        ({"name": "made", "device": "gpu"}, "device"),
    ]
    for arguments, message in bad:
        with pytest.raises(ValueError, match=message):
            run_study(**arguments, run=place)
    assert not place.exists()
    assert measured_cells == []


def test_a_folder_of_something_else_is_refused(measured_cells: list, tmp_path: Path) -> None:
    run_study("made", "smoke", run=tmp_path)
    with pytest.raises(ValueError, match="holds made at smoke scale; expected made at cpu scale"):
        run_study("made", "cpu", run=tmp_path)
    file = tmp_path / "results.json"
    content = json.loads(file.read_text())
    del content["measurements"][0]["seed"], content["checksum"]
    (tmp_path / "results.before.json").unlink()
    for text in ("{", "[]", '{"checksum": "' + 32 * "0"):
        file.write_text(text)
        with pytest.raises(ValueError, match="checksum"):
            run_study("made", "smoke", run=tmp_path)
        assert file.read_text() == text
    for body in ("{", "{}", json.dumps(content)):
        text = sealed_json(body)
        file.write_text(text)
        with pytest.raises(ValueError, match="holds no study's results"):
            run_study("made", "smoke", run=tmp_path)
        assert file.read_text() == text


def test_files_of_something_else_are_not_touched(measured_cells: list, tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text("mine")
    with pytest.raises(ValueError, match="holds files but no study"):
        run_study("made", "cpu", run=tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("table.md", "mine")]


def test_two_processes_do_not_measure_in_one_folder(measured_cells: list, tmp_path: Path) -> None:
    with locked(tmp_path) as free:
        assert free
        with pytest.raises(ValueError, match="another process measures"):
            run_study("made", "cpu", run=tmp_path)


def test_what_is_not_measured_cannot_be_read(measured_cells: list, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="minimand study run made --scale cpu"):
        read_study("made", "cpu", tmp_path)
    with pytest.raises(ValueError, match="scale is 'tiny'"):
        read_study("made", "tiny", tmp_path)  # pyright: ignore[reportArgumentType]


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("call", range(6))
def test_a_study_killed_at_any_write_goes_on_to_the_same_table(
    measured_cells: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    whole = run_study("made", "cpu", seeds=1, run=tmp_path / "whole")
    replace, calls = os.replace, []

    def kill(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) == call + 1:
            raise _Killed  # no clean-up: what a kill leaves
        replace(*paths)

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(_Killed):
        run_study("made", "cpu", seeds=1, run=tmp_path / "killed")
    assert run_study("made", "cpu", seeds=1, run=tmp_path / "killed").rows() == whole.rows()


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.99])
def test_damaged_results_are_noticed_and_those_before_used(measured_cells: list, tmp_path: Path, place: float) -> None:
    whole = run_study("made", "cpu", seeds=1, run=tmp_path)
    content = bytearray((tmp_path / "results.json").read_bytes())
    content[int(place * len(content))] ^= 1
    (tmp_path / "results.json").write_bytes(content)
    measured_cells.clear()
    with pytest.warns(UserWarning, match=r"results.json .*checksum.* The results before them are used"):
        assert run_study("made", "cpu", seeds=1, run=tmp_path).rows() == whole.rows()
    assert measured_cells == [(3, 0)]
