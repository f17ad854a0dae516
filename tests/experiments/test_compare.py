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
        "comparison.json", "table.md", "figure.svg", "report.html", "plan.yaml",
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


@pytest.mark.soak
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


def _tuned(folder: Path, **options: Any) -> mm.experiments.Comparison:
    recipe = mm.Recipe(epochs=2, batch_size=50, optimizer="adamw(lr=0.01, weight_decay=0)", schedule="cosine")
    settings: dict[str, Any] = {"model": "mlp(width=8, depth=2)", "seeds": 2, "tune": 3, "progress": False, **options}
    algorithms = ["gradient_descent", "heavy_ball(momentum=0.5)"]
    return mm.compare(algorithms, "nested_rings(samples=200)", recipe=recipe, run=folder, **settings)


def test_each_arm_gets_the_rate_that_is_best_on_held_out_samples(tmp_path: Path) -> None:
    comparison = _tuned(tmp_path)
    for entry in comparison.entries:
        assert sorted(entry.tried) == pytest.approx([0.005, 0.01, 0.02])
        assert entry.rate in entry.tried
        scores = {rate: score for rate, score in entry.tried.items() if score is not None}
        assert scores[entry.rate] == max(scores.values())
    judged = [run for run in tmp_path.iterdir() if run.is_dir() and run.name != "tuning"]
    for run in judged:
        lr = mm.load(run).recipe.optimizer.lr
        assert lr in {entry.rate for entry in comparison.entries}
    tuning = next((tmp_path / "tuning").glob("*/*/config.yaml"))
    assert "train: 160" in tuning.read_text()  # of 200
    assert "learning rate" in comparison.columns()
    assert "were chosen among 3 on 20%" in comparison.note


def test_a_plan_is_kept_and_another_one_is_refused_before_training(tmp_path: Path) -> None:
    _tuned(tmp_path, hypothesis="heavy ball is ahead")
    plan = (tmp_path / "plan.yaml").read_text()
    assert "hypothesis: heavy ball is ahead" in plan
    assert "Holm" in plan
    _tuned(tmp_path, hypothesis="heavy ball is ahead")  # the same plan goes on
    changes: dict[str, Any] = {"seeds": 5, "tune": 5, "hypothesis": "none"}
    for change, value in changes.items():
        with pytest.raises(ValueError, match="tuning.rates" if change == "tune" else change):
            _tuned(tmp_path, **{"hypothesis": "heavy ball is ahead", change: value})
    with pytest.raises(ValueError, match="tune is 1"):
        _tuned(tmp_path / "other", tune=1)
    assert not (tmp_path / "other").exists()
