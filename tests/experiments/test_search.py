import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import minimand as mm
from minimand.experiments.comparing.outcomes import Task
from minimand.experiments.searching import trials as trials_module
from minimand.experiments.searching.multistep import KNOWN, from_parameters
from minimand.experiments.searching.trials import Trial

MODULE = sys.modules["minimand.experiments.searching.search"]
RECIPE = mm.Recipe(epochs=2, batch_size=40)
SMALL: dict[str, Any] = {
    "data": "nested_rings(samples=200)",
    "model": "mlp(width=4, depth=3)",
    "recipe": RECIPE,
    "seeds": 1,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> mm.experiments.SearchResult:
    return mm.search(**SMALL, trials=6, run=tmp_path_factory.mktemp("runs") / "search")


@pytest.fixture
def only_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained afresh and written down after the trials."""
    monkeypatch.setattr(MODULE, "_conclude", lambda task, trials, *_: trials)


def _trials(folder: Path, trials: int, **changes: Any) -> list[Trial]:
    return mm.search(**{**SMALL, "run": folder, "trials": trials, **changes})  # pyright: ignore[reportReturnType]


def test_the_known_ones_come_first_and_only_certified_ones_are_trained(result: mm.experiments.SearchResult) -> None:
    assert [t.method.known for t in result.trials[:3]] == list(KNOWN)
    assert [t.number for t in result.trials] == list(range(1, 7))
    for trial in result.trials:
        certificate = mm.certify(trial.method.algorithm, depth=3)
        certified = certificate.zero_stable and all(gain for gain in certificate.gains)
        assert certified or (trial.loss is None and trial.outcome.startswith("not certified"))
    assert result.best.loss == min(t.loss for t in result.trials if t.loss is not None)


def test_what_was_found_is_a_file_that_certifies_the_same(result: mm.experiments.SearchResult) -> None:
    again = mm.algorithms.as_algorithm(f"{result.run}/found.py:Found")
    assert mm.equivalent(again, result.best.method.algorithm).relation == "identical"
    certificate = mm.certify(again, depth=3, block=torch.nn.Linear(2, 2)).to_dict()
    written = result.certificate.to_dict()
    for name in ("poles", "gains", "order", "rho", "sigma", "zero_stable", "consistent", "algorithm", "memory"):
        assert certificate[name] == written[name]
    text = (result.run / "found.py").read_text()
    assert text == result.source
    assert f'"""{result.best.method.formula}. Found by' in " ".join(text.split())
    assert f"validation loss {result.best.loss:.4f}, the lowest of 6 trials" in " ".join(text.split())


def test_everything_is_kept(result: mm.experiments.SearchResult) -> None:
    written = json.loads((result.run / "search.json").read_text())
    assert len(written["trials"]) == 6
    assert written["seed"] == 1000
    assert written["held_out"] == 40
    assert {"hardware", "date"} <= written["environment"].keys()
    assert written["found"]["loss"] == result.best.loss
    names = [e["algorithm"].partition("(")[0] for e in written["comparison"]["entries"]]
    assert names[-3:] == ["GradientDescent", "HeavyBall", "NesterovY"]
    page = (result.run / "report.html").read_text()
    assert "akiba2019optuna" in page
    assert result.best.method.formula in page
    assert result.rows()[0][0] == str(result.best.number)
    assert {row[-1] for row in result.rows()} >= set(KNOWN)
    assert result.source in str(result)


def test_the_nearest_are_near_and_not_one_network_in_two_words(result: mm.experiments.SearchResult) -> None:
    distances = [far for _, far in result.nearest]
    assert distances == sorted(distances)
    for name, far in result.nearest:
        assert far == mm.theory.distance(result.best.method.algorithm, name, depth=3)
    first, second = (name for name, _ in result.nearest[:2])
    assert mm.theory.distance(first, second, depth=3) > 0


@pytest.mark.usefixtures("only_trials")
def test_a_search_that_was_broken_off_makes_the_trials_that_it_would_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _trials(tmp_path / "whole", 5)
    assert len({t.method for t in whole}) == 5
    _trials(tmp_path / "parts", 2)
    train, calls = Task.train, []

    def interrupted(*arguments: Any) -> mm.training.FitResult:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(Task, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _trials(tmp_path / "parts", 5)
    lines: list[str] = []
    parts = _trials(tmp_path / "parts", 5, tell=lines.append)
    assert [(t.method, t.outcome, t.loss) for t in parts] == [(t.method, t.outcome, t.loss) for t in whole]
    assert len(calls) == 4  # the one that was broken off is made again
    assert lines[0] == "going on: 3 trials were made before"
    assert len(lines) == 3
    assert _trials(tmp_path / "parts", 5) == parts
    assert len(calls) == 4


@pytest.mark.usefixtures("only_trials")
def test_a_search_killed_inside_any_trial_makes_the_same_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder as a kill leaves it while a trial is under way."""
    train, copies = Task.train, []

    def copying(*arguments: Any) -> mm.training.FitResult:
        copies.append(tmp_path / f"killed{len(copies)}")
        shutil.copytree(tmp_path / "whole", copies[-1])
        return train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "train", copying)
        whole = _trials(tmp_path / "whole", 4)
    for folder in (copies[0], copies[2], copies[3]):
        assert [(t.method, t.outcome, t.loss) for t in _trials(folder, 4)] == [
            (t.method, t.outcome, t.loss) for t in whole
        ]


@pytest.mark.usefixtures("only_trials")
def test_a_damaged_database_is_what_the_last_trial_left(tmp_path: Path) -> None:
    before = _trials(tmp_path / "search", 2)
    for name in ("study.db", "study.sealed"):
        content = bytearray((tmp_path / "search" / name).read_bytes())
        flipped = content.copy()
        flipped[len(content) // 2] ^= 1
        for number, damaged in enumerate((content[:1000], flipped, b"")):
            folder = tmp_path / f"{name}{number}"
            shutil.copytree(tmp_path / "search", folder)
            (folder / name).write_bytes(damaged)
            lines: list[str] = []
            assert _trials(folder, 2, tell=lines.append) == before
            assert ("study.sealed is damaged" in lines[0]) == (name == "study.sealed")


@pytest.mark.usefixtures("only_trials")
def test_a_study_in_a_database_of_one_s_own(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/mine.db"
    task: dict[str, Any] = {"data": "telgarsky(points=64)", "storage": storage, "steps": 1}
    trials = _trials(tmp_path / "a", 2, **task)
    assert [t.outcome for t in trials] == ["trained"] * 2
    assert trials[0].method == from_parameters(KNOWN["gradient_descent"])
    assert _trials(tmp_path / "a", 2, **task) == trials
    assert len(_trials(tmp_path / "b", 1, **task)) == 1
    assert not list(tmp_path.glob("*/study.db"))


def test_one_outside_the_region_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x_next = x - (1 - 1) grad(x) - 1 grad(x_previous): the last block does not reach the output."""
    silent = {"reflection1": 0.0, "step_size": 1.0, "damping1": -1.0}
    monkeypatch.setattr(trials_module, "known_parameters", lambda steps: {"silent": silent})
    monkeypatch.setattr(Task, "train", None)
    lines: list[str] = []
    with pytest.raises(ValueError, match="none of the 1 trials was trained to its end: 1 not certified"):
        _trials(tmp_path / "new", 1, tell=lines.append)
    assert lines[0].endswith("not certified: the gain of layer 2 is 0")


def test_losses_that_are_not_finite_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 trials was trained to its end: 1 diverged. Lower the learning rate"):
        _trials(tmp_path / "new", 1, recipe=mm.Recipe(epochs=2, batch_size=40, optimizer=mm.SGD(lr=1e30)))


@pytest.mark.usefixtures("only_trials")
def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    _trials(tmp_path / "search", 1)
    for changes, message in (
        ({"steps": 3}, "steps was 2 and is 3"),
        ({"recipe": mm.Recipe(epochs=3, batch_size=40)}, "recipe.Recipe.epochs was 2 and is 3"),
        ({"model": "mlp(width=5, depth=3)"}, "model.width was 4 and is 5"),
        ({"data": "nested_rings(samples=300)"}, "the data is not what it was"),
        ({"seed": 2000}, "seed was 1000 and is 2000"),
    ):
        with pytest.raises(ValueError, match=f"search holds a search with other settings: .*{message}"):
            _trials(tmp_path / "search", 1, **changes)


RINGS = TensorDataset(torch.randn(8, 2), torch.arange(8) % 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "trials is 0; expected an integer of at least 1"),
        ({"steps": 0}, "steps is 0"),
        ({"seeds": True}, "seeds is True"),
        ({"seed": 0}, "seed is 0, which the final comparison uses; expected 1 or more"),
        ({"seed": -1}, "seed is -1; expected an integer from 0"),
        ({"data": "nested_ring"}, "Did you mean 'nested_rings'"),
        ({"model": "resnet20"}, "resnet20 takes images"),
        ({"data": "nested_rings(samples=2)"}, "nested_rings has 2 training samples; expected at least 5"),
        ({"data": (DataLoader(RINGS, 4), RINGS)}, "the training samples are a Loader, which is read in its own order"),
        ({"storage": "nowhere"}, "storage is 'nowhere', which Optuna cannot open"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        mm.search(**{**SMALL, "run": tmp_path / "new", **changes})
    assert not (tmp_path / "new").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(ValueError, match="holds files but no search; name an empty or a new folder"):
        _trials(tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'minimand\[search\]'"):
        _trials(tmp_path / "new", 1)
    assert not (tmp_path / "new").exists()
