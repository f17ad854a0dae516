import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import minimand as mm
from minimand.experiments.comparing.tuning import at_the_edge, trials

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
    assert len([p for p in tmp_path.iterdir() if p.is_dir() and p.name != "outcomes"]) == 4
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
        ({"algorithms": ["heavy_ball"], "seeds": 2.5}, "seeds is 2.5; expected an integer"),
        ({"algorithms": ["heavy_ball"], "tune": 2.5}, "tune is 2.5; expected 0, or at least 2"),
        ({"algorithms": ["heavy_ball"], "budget": "step"}, "Did you mean 'steps'"),
        ({"algorithms": ["heavy_ball"], "margin": -1.0}, "margin is -1.0"),
        ({"algorithms": ["heavy_ball"], "margin": 0}, "margin is 0, within which nothing can be shown"),
        (
            {"algorithms": ["heavy_ball"], "budget": "time", "recipe": mm.Recipe(validation=0.1, early_stopping=1)},
            "early_stopping is 1, which ends trainings before",
        ),
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
        assert [tried.rate for tried in entry.tried] == pytest.approx([0.005, 0.01, 0.02])
        assert entry.chosen in entry.tried
        assert entry.chosen.score == max(tried.score for tried in entry.tried if tried.score is not None)
    judged = [run for run in tmp_path.iterdir() if run.is_dir() and run.name not in ("tuning", "outcomes")]
    for run in judged:
        lr = mm.load(run).recipe.optimizer.lr
        assert lr in {entry.chosen.rate for entry in comparison.entries if entry.chosen}
    tuning = next((tmp_path / "tuning").glob("*/*/config.yaml"))
    assert "train: 160" in tuning.read_text()  # of 200
    assert "chosen" in comparison.columns()
    assert "were chosen among 3 on 20%" in comparison.note


@pytest.mark.parametrize("step", [1e-4, 0.01, 3.0])
def test_a_step_is_timed_whatever_a_training_takes_besides(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """The clock has what each training takes of its own, noise that only makes longer, and a slow first one."""
    from minimand.experiments.comparing import budget

    now, random, first = [0.0], torch.Generator().manual_seed(0), [5.0]

    def train(model: Any, data: Any, recipe: mm.Recipe, *_: Any) -> None:
        noise = 0.05 * torch.rand(1, generator=random).item()
        now[0] += (0.2 + step * len(data.train) / recipe.batch_size) * (1 + noise) + first[0]
        first[0] = 0.0

    monkeypatch.setattr(budget, "_fit_copy", train)
    monkeypatch.setattr(budget.time, "process_time", lambda: now[0])
    data, recipe = mm.load_data("nested_rings(samples=200)"), mm.Recipe(batch_size=20)
    costs = budget.costs("time", dict.fromkeys("ab", torch.nn.Identity()), data, recipe, torch.device("cpu"))
    steps = len(data.train) / 20
    assert all(cost == pytest.approx(steps * step, rel=0.5) for cost in costs.values())


@pytest.mark.parametrize("budget", ["time", "flops"])
def test_arms_of_an_equal_budget_have_the_epochs_for_it(
    tmp_path: Path, budget: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two blocks a layer a step costs more; what was measured is in the plan, and is not measured again."""
    recipe = mm.Recipe(epochs=5, batch_size=50)
    how: dict[str, Any] = {"model": "mlp(width=32, depth=3)", "seeds": 1, "recipe": recipe, "progress": False}
    arms = ["gradient_descent", "runge_kutta"]
    comparison = mm.compare(arms, "nested_rings(samples=200)", budget=budget, run=tmp_path, **how)
    first, second = comparison.entries
    assert first.epochs == 5
    assert first.cost is not None
    assert second.cost is not None
    assert second.epochs == max(1, round(5 * first.cost / second.cost)) == len(second.histories[0])
    assert f"{'Time' if budget == 'time' else 'Training FLOPs'}" in comparison.note
    assert "epochs" in comparison.columns()
    module = import_module("minimand.experiments.comparing.compare")
    monkeypatch.setattr(module, "costs", lambda *_: pytest.fail("measured again"))
    again = mm.compare(arms, "nested_rings(samples=200)", budget=budget, run=tmp_path, **how)
    assert again.rows() == comparison.rows()
    with pytest.raises(ValueError, match=r"budget.equal was .* and is 'steps'"):
        mm.compare(arms, "nested_rings(samples=200)", run=tmp_path, **how)


@pytest.mark.parametrize(
    ("optimizer", "tries", "momenta"),
    [("sgd", 8, None), ("sgd", 9, [0.8, 0.9, 0.95]), ("sgd(momentum=0.3)", 10, [0.0, 0.3, 0.65]),
     ("muon", 9, [0.9, 0.95, 0.975]), ("adamw", 12, None), ("sgd(momentum=0.0)", 12, None)],
)  # fmt: skip
def test_trials_are_as_many_as_said_and_tune_momentum_from_nine_on(
    optimizer: Any, tries: int, momenta: list[float] | None
) -> None:
    recipe = mm.Recipe(optimizer=optimizer)
    tried = trials(recipe, tries)
    assert len({(t.rate, t.momentum) for t in tried}) == tries
    assert list(dict.fromkeys(t.momentum for t in tried)) == (momenta or [None])
    middle = next(t for t in tried if t.applied(recipe) == recipe)  # the recipe itself is tried
    assert at_the_edge(middle, tried) is False
    if momenta and optimizer.startswith("sgd"):
        steps = {t.momentum: t.rate / (1 - (t.momentum or 0)) for t in tried if tried.index(t) % 3 == 1 and tries == 9}
        assert len({round(step, 9) for step in steps.values()}) <= 1


def test_a_plan_is_kept_and_another_one_is_refused_before_training(tmp_path: Path) -> None:
    _tuned(tmp_path, hypothesis="heavy ball is ahead")
    plan = (tmp_path / "plan.yaml").read_text()
    assert "hypothesis: heavy ball is ahead" in plan
    assert "Holm" in plan
    again = _tuned(tmp_path, hypothesis="heavy ball is ahead")  # the same plan goes on
    assert "Expected before: heavy ball is ahead. " in again.note
    changes: dict[str, Any] = {"seeds": 5, "tune": 5, "hypothesis": "none"}
    for change, value in changes.items():
        with pytest.raises(ValueError, match="tuning.trials" if change == "tune" else change):
            _tuned(tmp_path, **{"hypothesis": "heavy ball is ahead", change: value})
    with pytest.raises(ValueError, match="tune is 1"):
        _tuned(tmp_path / "other", tune=1)
    assert not (tmp_path / "other").exists()
