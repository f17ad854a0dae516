"""Decisive studies: a plan first, tuning by the same budget, then paired seeds and a verdict on each claim."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import minimand as mm
from minimand._support.plain_yaml import read_yaml
from minimand.experiments import Claim, Column, DecisiveResult, DecisiveStudy, Trials, read_study, run_study
from minimand.experiments.comparing.budget import training_flops
from minimand.experiments.deciding import judged
from minimand.experiments.deciding.judged import recipe_of
from minimand.experiments.statistics.held_out import SEED, judged_part
from minimand.experiments.statistics.paired import PairedDifference
from minimand.experiments.statistics.verdict import verdict
from minimand.experiments.study import STUDIES
from minimand.models import create_for
from minimand.recipes import Recipe, as_config
from minimand.training.hooks.watching.nonfinite import NonFiniteLossError

_HEIGHT = {"good": 3.0, "bad": 1.0, "twin": 1.0}
_NOISE = (0.11, -0.2, 0.3, -0.05, 0.2, -0.12, 0.04, -0.3)


def _measure(cell: Any, seed: int, bench: Any) -> dict[str, Any]:
    """A score that is the arm's at rate 2, less away from it, with noise that only the twin does not share."""
    if cell["rate"] == 4:
        raise NonFiniteLossError("too large")
    own = 0.01 * _NOISE[seed % 8] if cell["arm"] == "twin" else 0.1 * _NOISE[(seed + len(cell["arm"])) % 8]
    return {"score": _HEIGHT[cell["arm"]] - abs(cell["rate"] - 2) + own + cell["group"], "flops": 1000 * cell["group"]}


def _claims() -> tuple[Claim, ...]:
    return (
        Claim("good is higher", "good", "bad", "higher", "nesterov1983"),
        Claim("bad is higher than good", "bad", "good", "higher"),
        Claim("twin is higher", "twin", "bad", "higher"),
        Claim("twin is the same", "twin", "bad", "equal"),
    )


def _of_rates(rates: tuple[int, ...]) -> Any:
    return lambda cell, scale: Trials([{"rate": rate} for rate in rates], {"group": 1})


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> DecisiveStudy:
    study = DecisiveStudy(
        "decided", "Made up", "About.", (),
        lambda scale: [{"arm": arm, "group": group} for group in (1, 2) for arm in _HEIGHT],
        _measure, ("group", "arm"), (Column("score", "score", 2),),
        claims=_claims(), margin=0.5, unit="units", seeds=8,
        trials=_of_rates((1, 2, 3, 4)),
    )  # fmt: skip
    monkeypatch.setitem(STUDIES._things, "decided", study)
    return study


def _decided(run: Path, **arguments: Any) -> DecisiveResult:
    result = run_study("decided", "cpu", run=run, **arguments)
    assert isinstance(result, DecisiveResult)
    return result


def test_a_study_decides_what_its_arms_differ_in(study: DecisiveStudy, tmp_path: Path) -> None:
    lines: list[str] = []
    result = _decided(tmp_path, tell=lines.append)
    assert [row[0:2] + row[3:] for row in result.rows()] == [
        [str(group), arm, "8", f"{1000 * group:.3g}", "rate 2"] for group in (1, 2) for arm in _HEIGHT
    ]
    verdicts = [decision.verdict for decision in result.decisions]
    assert len(verdicts) == 8
    assert verdicts[0] == verdicts[6] == "confirmed"
    assert verdicts[2] == "contradicted"
    assert verdicts[4].startswith("not seen (difference beyond 0.")
    assert verdicts[4].endswith(" units excluded)")
    for text in (str(result), (tmp_path / "table.md").read_text(), (tmp_path / "report.html").read_text()):
        words = " ".join(text.split())
        assert all(word in words for word in ("contradicted", "not seen", "p of equality"))
    assert "1, good: chosen: rate 2" in lines
    assert "tuning 1, good, rate 1" in lines[0]
    assert all(figure.axes[0].has_data() for figure in result.figures().values())


def test_a_line_of_a_trial_has_no_column_that_only_judged_trainings_have(
    study: DecisiveStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(cell: Any, seed: int, bench: Any) -> dict[str, Any]:
        return {**_measure(cell, seed, bench), **({} if "stage" in cell else {"kept": 7})}

    lines: list[str] = []
    monkeypatch.setitem(
        STUDIES._things, "decided", replace(study, columns=(*study.columns, Column("kept", "kept", 0)), measure=measure)
    )
    _decided(tmp_path, seeds=2, tell=lines.append)
    is_trial = {line: "tuning" in line for line in lines if "score" in line and "diverged" not in line}
    assert set(is_trial.values()) == {True, False}
    assert all(("kept" in line) != trial for line, trial in is_trial.items())


def test_arms_of_equal_operations_are_drawn_in_rows_of_their_own(
    study: DecisiveStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(cell: Any, seed: int, bench: Any) -> dict[str, Any]:
        return _measure(cell, seed, bench) | {"flops": 1000, "curve": [1.0]}

    monkeypatch.setitem(STUDIES._things, "decided", replace(study, measure=measure))
    result = _decided(tmp_path)
    ((caption, figure),) = result.figures().items()  # curves of one epoch are no figure
    (axes,) = figure.axes
    assert "as many operations" in caption
    labels = {
        round(tick): label.get_text() for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    }
    assert labels == dict(enumerate(f"{group}, {arm}" for group in (1, 2) for arm in _HEIGHT))
    drawn = {float(y): float(x) for container in axes.containers for x, y in zip(*container[0].get_data(), strict=True)}
    means = [float(row[2].split(" ")[0]) for row in result.rows()]
    assert [drawn[row] for row in range(6)] == pytest.approx(means, abs=0.006)


def test_groups_that_differ_only_in_what_holds_for_trials_share_their_tuning(
    study: DecisiveStudy, tmp_path: Path
) -> None:
    result = _decided(tmp_path, seeds=2)
    tuning = [m for m in result.measurements if m.cell.get("stage") == "tuning"]
    assert len(tuning) == 3 * 4
    assert {m.seed for m in tuning} == {SEED}
    assert len(result.measurements) == 3 * 4 + 6 * 2
    assert all("stage" not in m.cell for m in result.measurements[12:])


def test_the_plan_comes_first_and_holds(study: DecisiveStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _decided(tmp_path, tell=interrupted)
    plan = read_yaml((tmp_path / "plan.yaml").read_text())
    assert [claim["hypothesis"] for claim in plan["claims"]] == [claim.hypothesis for claim in _claims()]
    assert plan["seeds"] == list(range(8))
    assert len(plan["tuning"]["trials"]) == 12
    with pytest.raises(ValueError, match="is another plan: seeds was"):
        _decided(tmp_path, seeds=3)
    monkeypatch.setitem(STUDIES._things, "decided", replace(study, margin=0.7))
    with pytest.raises(ValueError, match=r"is another plan: margin was 0\.5 and is 0\.7"):
        _decided(tmp_path)
    for rates, words in (
        ((1, 2), "is another plan: tuning.trials had 12 entries and has 6. Name"),
        ((5, 6, 7, 8), r"trials\[0\]\.rate was 1 and is 5; .*; and 8 differences more"),
    ):
        monkeypatch.setitem(STUDIES._things, "decided", replace(study, trials=_of_rates(rates)))
        with pytest.raises(ValueError, match=words):
            _decided(tmp_path)


@pytest.mark.parametrize("call", [1, 11, 12, 14, 40])
def test_an_interrupted_study_goes_on_to_the_same_tables(study: DecisiveStudy, tmp_path: Path, call: int) -> None:
    whole = _decided(tmp_path / "whole")
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == call:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _decided(tmp_path / "broken", tell=tell)
    partial = read_study("decided", "cpu", tmp_path / "broken")
    assert isinstance(partial, DecisiveResult)
    assert all(decision.verdict == "being measured" for decision in partial.decisions) is (call < 30)
    assert ("not made yet" in partial.note) is (call < 12)
    again = _decided(tmp_path / "broken")
    assert (again.rows(), again.claim_rows()) == (whole.rows(), whole.claim_rows())


def test_the_best_at_the_edge_and_an_arm_that_always_diverges_are_named(
    study: DecisiveStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rates(cell: Any, scale: Any) -> Trials:
        return Trials([{"rate": rate} for rate in ((4, 4.0) if cell["arm"] == "bad" else (2, 3))])

    monkeypatch.setitem(STUDIES._things, "decided", replace(study, trials=rates))
    lines: list[str] = []
    result = _decided(tmp_path, seeds=2, tell=lines.append)
    assert "1, good: chosen: rate 2 (at the edge)" in lines
    assert "1, bad: diverged at every trial and is not judged" in lines
    assert "Diverged at every trial: 1, bad, 2, bad." in result.note
    assert {d.verdict for d in result.decisions} == {"undecided at this size (bad diverged at every trial)"}


@pytest.mark.parametrize(("finished", "seeds"), [(8, "8"), (7, "7 (1 diverged)"), (1, "1 (7 diverged)")])
def test_seeds_that_diverge_are_counted_and_end_the_measuring(
    study: DecisiveStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int, seeds: str
) -> None:
    def measure(cell: Any, seed: int, bench: Any) -> dict[str, Any]:
        if cell["arm"] == "good" and finished <= seed < 8:
            if seed == 7:  # a measurement may also come to no number
                return {"score": math.inf}
            raise NonFiniteLossError("too large")
        return _measure(cell, seed, bench)

    monkeypatch.setitem(STUDIES._things, "decided", replace(study, measure=measure))
    result = _decided(tmp_path)
    assert [row[-1] for row in result.claim_rows()] == [seeds] * 4 + ["8"] * 4
    few = "undecided at this size (too many trainings diverged)"
    assert result.decisions[0].verdict == ("confirmed" if finished > 1 else few)


def test_arms_have_the_same_number_of_trials(study: DecisiveStudy, tmp_path: Path) -> None:
    unfair = replace(study, trials=lambda cell, scale: Trials([{"rate": 1}] * len(cell["arm"])))
    with pytest.raises(ValueError, match="different numbers of trials"):
        unfair.tuning_cells("cpu")


def test_trials_are_judged_on_a_held_out_part_of_the_training_samples() -> None:
    data = mm.load_data("digits")
    held = judged_part(data, {"stage": "tuning"})
    assert len(held.train) + len(held.test) == len(data.train)
    assert judged_part(data, {}) is data


@pytest.mark.parametrize(
    ("values", "expected", "margin", "words"),
    [
        ((1.0, 1.2, 0.9, 1.1), "higher", 0.5, "confirmed"),
        ((1.0, 1.2, 0.9, 1.1), "different", None, "confirmed"),
        ((1.0, 1.2, 0.9, 1.1), "lower", 0.5, "contradicted"),
        ((1.0, 1.2, 0.9, 1.1), "equal", 0.5, "contradicted"),
        ((1.0, 1.2, 0.9, 1.1), "equal", 2.0, "confirmed"),
        ((0.1, -0.1, 0.2, -0.15), "higher", 0.5, r"not seen \(difference beyond 0.21 excluded\)"),
        ((0.1, -0.1, 0.2, -0.15), "equal", 0.15, r"undecided at this size \(\d+ seeds would show equality\)"),
        ((0.1, -0.1, 0.2, -0.15), "equal", 0.01, r"undecided .*not within the margin\)"),
        ((1.0, -0.5, 2.0, 0.5), "lower", 0.5, r"undecided at this size \(\d+ seeds would show the difference measured"),
        ((1.0, -1.0 + 1e-4), "higher", None, r"undecided at this size \(more than 10,000 seeds would show"),
        ((1.0, -1.0), "higher", None, r"undecided at this size \(the difference measured is 0\)"),
        ((0.0, 0.0), "higher", 0.5, r"undecided .* \(no difference at any seed, too few to tell\)"),
        ((1.0, 1.0), "equal", 0.5, r"undecided .* \(the same difference at every seed, too few to tell\)"),
        ((1.0,) * 6, "equal", 0.5, "contradicted"),
        ((-1.0,) * 6, "equal", 1.5, "confirmed"),
        ((0.0,) * 5, "higher", 0.5, r"not seen \(difference beyond 0.50 excluded\)"),
    ],
)
def test_the_words_of_a_verdict(values: Any, expected: Any, margin: float | None, words: str) -> None:
    import re

    assert re.fullmatch(f"{words}.*", verdict(PairedDifference(values), expected, margin, lambda v: f"{v:.2f}"))


def test_equality_is_two_one_sided_tests_of_scipy() -> None:
    from scipy import stats

    values = (0.1, -0.1, 0.25, -0.05, 0.02)
    p = [stats.ttest_1samp(values, end, alternative=side).pvalue for end, side in ((0.3, "less"), (-0.3, "greater"))]  # pyright: ignore[reportAttributeAccessIssue]
    assert PairedDifference(values).equality_p(0.3) == pytest.approx(max(p))
    beyond = PairedDifference(values).excluded_beyond
    assert PairedDifference(values).equality_p(beyond) == pytest.approx(0.05)


def test_operations_of_a_training_are_three_times_those_of_its_forward_passes() -> None:
    data = mm.load_data("digits")
    model = create_for("mlp(width=64, depth=4)", data.shape, data.num_outputs)
    forward = 2 * mm.summary(model, data).macs * len(data.train)
    recipe = Recipe(epochs=2, batch_size=64)
    before = [p.clone() for p in model.parameters()]
    assert training_flops(model, data, recipe) == pytest.approx(2 * 3 * forward, rel=0.2)
    assert all((p == q).all() for p, q in zip(before, model.parameters(), strict=True))
    assert training_flops(model, data, replace(recipe, epochs=6)) == 3 * training_flops(model, data, recipe)


def test_settings_of_a_cell_stand_above_its_recipe() -> None:
    cell = {"recipe": as_config(Recipe()), "rate": 0.3, "momentum": 0.5, "epochs": 2}
    recipe = recipe_of(cell)
    assert (recipe.optimizer.lr, recipe.optimizer.momentum, recipe.epochs) == (0.3, 0.5, 2)  # pyright: ignore
    assert recipe_of({"recipe": as_config(Recipe())}) == Recipe()


def test_the_curve_of_a_regression_keeps_errors_that_are_nearly_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies take logarithms of them."""
    history = [{"test_loss": loss} for loss in (0.123456, 2.34567e-7)]
    result = SimpleNamespace(test_accuracy=None, test_loss=2.34567e-7, history=history)
    monkeypatch.setattr(judged, "train", lambda *_: result)
    monkeypatch.setattr(judged, "training_flops", lambda *_: 1.0)
    cell = {"recipe": as_config(mm.Recipe(epochs=2))}
    nothing: Any = SimpleNamespace()
    values = judged.train_judged(torch.nn.Linear(1, 1), nothing, cell, 0, nothing)
    assert values["curve"] == [0.12346, 2.3457e-7]
