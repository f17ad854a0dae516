import json
from pathlib import Path
from typing import Any

import pytest
import torch

import minimand as mm

RECIPE = mm.Recipe(epochs=2, batch_size=50)


def _compare(folder: Path, algorithms: list[Any] | None = None, seeds: int = 2) -> mm.experiments.Comparison:
    return mm.compare(
        algorithms or ["gradient_descent", "heavy_ball(momentum=0.9)"],
        "nested_rings(samples=200)",
        model="mlp(width=8, depth=4)",
        seeds=seeds,
        recipe=RECIPE,
        run=str(folder),
    )


def test_a_comparison_keeps_runs_table_and_page(tmp_path: Path) -> None:
    comparison = _compare(tmp_path)
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {
        "comparison.json", "table.md", "figure.svg", "report.html",
    }  # fmt: skip
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 4
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["seeds"] == [0, 1]
    assert {"hardware", "date", "torch"} <= written["environment"].keys()
    for written_entry, entry in zip(written["entries"], comparison.entries, strict=True):
        assert written_entry["accuracies"] == entry.accuracies
        assert len(entry.accuracies) == 2
    table = (tmp_path / "table.md").read_text()
    accuracies = torch.tensor(comparison.entries[1].accuracies, dtype=torch.double) * 100
    assert f"{accuracies.mean():.2f} ± {accuracies.std():.2f}" in table
    assert "HeavyBall(step_size=1.0, momentum=0.9)" in str(comparison)


def test_the_same_call_trains_nothing_again_and_says_the_same(tmp_path: Path) -> None:
    first = _compare(tmp_path)
    again = _compare(tmp_path)
    assert [e.losses for e in again.entries] == [e.losses for e in first.entries]
    assert [e.histories for e in again.entries] == [e.histories for e in first.entries]


def test_all_begin_with_the_same_blocks(tmp_path: Path) -> None:
    """An algorithm against itself in other words: the same weights, data and network give the same numbers."""
    comparison = _compare(tmp_path, ["nesterov(momentum=0.0)", "gradient_descent"])
    a, b = comparison.entries
    assert a.losses == pytest.approx(b.losses, rel=1e-4)
    assert a.parameters == b.parameters
    assert a.flops == b.flops


class Quadratic(mm.Algorithm):
    step_size: mm.Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        return state - self.step_size(k) * state * gradient(state)

    def read(self, state: Any) -> Any:
        return state


def test_algorithms_that_read_alike_have_their_own_runs(tmp_path: Path) -> None:
    comparison = _compare(
        tmp_path,
        [
            mm.algorithms.HeavyBall(momentum=lambda k: 0.0),
            mm.algorithms.HeavyBall(momentum=lambda k: 0.9),
            "heavy_ball(momentum=-0.5)",
            "heavy_ball(momentum=0.5)",
        ],
        seeds=1,
    )
    assert len({e.algorithm for e in comparison.entries}) == 4
    assert len({tuple(e.losses) for e in comparison.entries}) == 4
    assert len(comparison.certificates) == 4


def test_a_run_that_diverges_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    comparison = _compare(tmp_path, ["heavy_ball(step_size=1e30)", "gradient_descent"])
    assert comparison.entries[0].diverged == [0, 1]
    assert comparison.rows()[0][1:4] == ["diverged"] * 3
    assert len(comparison.entries[1].losses) == 2
    assert "diverged" in (tmp_path / "table.md").read_text()


def test_a_single_name_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"algorithms is 'heavy_ball', a single one; expected a list"):
        mm.compare("heavy_ball", run=str(tmp_path / "new"))


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    assert "±" not in str(_compare(tmp_path, ["gradient_descent"], seeds=1))


def test_bad_input(tmp_path: Path) -> None:
    quadratic = Quadratic()
    for arguments, message in (
        ({"algorithms": ["heavy_ball", quadratic]}, "it multiplies a state or an answer by another"),
        ({"algorithms": ["heavy_ball", "HeavyBall(momentum=0.5)"]}, "twice; expected each once"),
        ({"algorithms": []}, "algorithms is empty"),
        ({"algorithms": ["heavyball"]}, "Did you mean 'heavy_ball'"),
        ({"algorithms": ["heavy_ball"], "seeds": 0}, "seeds is 0"),
        ({"algorithms": ["heavy_ball"], "model": "resnet20"}, "resnet20 takes images"),
    ):
        with pytest.raises(ValueError, match=message):
            mm.compare(**{"data": "nested_rings", "model": "mlp", "run": str(tmp_path / "new"), **arguments})
        assert not (tmp_path / "new").exists()
