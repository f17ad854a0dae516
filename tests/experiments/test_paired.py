"""Paired differences against scipy, a brute-force power, and properties."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from minimand.experiments.comparing.comparison import Comparison, ComparisonEntry
from minimand.experiments.statistics.paired import PairedDifference, corrected

VALUES = st.lists(st.floats(-5, 5), min_size=2, max_size=8)


@given(st.data())
def test_interval_and_p_are_those_of_scipys_paired_test(data: st.DataObject) -> None:
    first = data.draw(VALUES)
    second = data.draw(st.lists(st.floats(-5, 5), min_size=len(first), max_size=len(first)))
    difference = PairedDifference.of(first, second)
    if difference.deviation < 1e-6:
        return
    theirs = stats.ttest_rel(first, second)
    assert difference.p == pytest.approx(theirs.pvalue, abs=1e-9)  # pyright: ignore[reportAttributeAccessIssue]
    interval = theirs.confidence_interval(0.95)  # pyright: ignore[reportAttributeAccessIssue]
    assert difference.interval == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_the_number_of_seeds_has_the_power_that_simulation_finds() -> None:
    rng = np.random.default_rng(0)
    seeds = PairedDifference.of([0.0, 1.0], [1.0, 0.0]).seeds_to_show(1.0)  # deviation sqrt 2
    assert seeds is not None
    samples = rng.normal(1.0, math.sqrt(2), (20_000, seeds))
    power = float((stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean())  # pyright: ignore
    fewer = float((stats.ttest_1samp(samples[:, :-1], 0, axis=1).pvalue < 0.05).mean())  # pyright: ignore
    assert fewer < 0.8 <= power + 0.01


@pytest.mark.parametrize(("mean", "margin"), [(0.0, 0.5), (0.3, 1.0), (-0.3, 1.0), (0.0, 2.0)])
def test_the_number_of_seeds_for_equality_has_the_power_that_simulation_finds(mean: float, margin: float) -> None:
    differences = (mean - math.sqrt(0.5), mean + math.sqrt(0.5))  # deviation 1
    seeds = PairedDifference(differences).seeds_to_exclude(margin)
    assert seeds is not None

    def power(count: int) -> float:
        samples = np.random.default_rng(0).normal(mean, 1, (20_000, count))
        beyond = margin - np.abs(samples.mean(1))
        return float((stats.t.sf(beyond / stats.sem(samples, axis=1), count - 1) < 0.05).mean())

    assert power(seeds - 1) < 0.81
    assert power(seeds) > 0.79


def test_no_number_of_seeds_shows_equality_within_less_than_the_mean() -> None:
    assert PairedDifference((1.0, 1.2)).seeds_to_exclude(1.0) is None


def test_holm_is_the_step_down_of_bonferroni() -> None:
    rng = np.random.default_rng(1)
    arms = [PairedDifference.of(list(rng.normal(d, 1, 6)), [0.0] * 6) for d in (0.0, 1.0, 2.0, 3.0)]
    p = [arm.raw_p for arm in corrected(arms)]
    ours = [arm.p for arm in corrected(arms)]
    by_size = sorted(range(4), key=lambda i: p[i])
    assert ours[by_size[0]] == pytest.approx(min(1, 4 * p[by_size[0]]))
    assert all(a >= b for a, b in zip(ours, p, strict=True))
    assert sorted(ours) == [ours[i] for i in by_size]
    assert corrected(arms[:1])[0].p == arms[0].raw_p


def test_arms_that_are_equal_or_cannot_be_paired() -> None:
    same = PairedDifference.of([0.5, 0.5], [0.5, 0.5])
    assert same.p == 1.0
    assert not same.is_shown
    assert not math.isfinite(same.excluded_beyond)
    with pytest.raises(ValueError, match="3 and 2 seeds"):
        PairedDifference.of([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="two at least"):
        PairedDifference.of([1], [1])
    with pytest.raises(ValueError, match="an arm has nan at seed 1"):
        PairedDifference.of([1, 2], [1, math.nan])


@pytest.mark.parametrize("seeds", range(2, 9))
def test_the_same_difference_at_every_seed_is_no_certainty(seeds: int) -> None:
    second = [0.6555 + 0.0139 * i for i in range(seeds)]
    difference = PairedDifference.of([value + 1 / 360 for value in second], second)  # equal but for rounding
    assert difference.p == 2 * 0.5**seeds
    assert difference.is_shown == (seeds > 5)


def entry(name: str, accuracies: list[float], diverged: list[int]) -> ComparisonEntry:
    return ComparisonEntry(name, 1, None, accuracies, [1.0] * len(accuracies), [1.0], [], diverged)


def test_a_comparison_pairs_the_seeds_that_both_arms_finished() -> None:
    first, second = [0.80, 0.81, 0.82, 0.83], [0.71, 0.725, 0.73]  # the second diverged at seed 0
    machine = {"hardware": "a machine", "torch": "2", "date": "today"}
    entries = [entry("a", first, []), entry("b", second, [0]), entry("c", [0.80, 0.80, 0.83, 0.83], [])]
    comparison = Comparison("data", "model", "recipe", [0, 1, 2, 3], machine, entries, {})
    differences = comparison.differences
    assert differences["b"].differences == pytest.approx((-10, -9.5, -10))
    assert differences["b"].p == pytest.approx(2 * stats.ttest_rel(second, first[1:]).pvalue)  # pyright: ignore
    assert re.fullmatch(r"A difference from a: b: confirmed; c: undecided at this size \(.*\).", comparison.verdict)
    excluding = replace(comparison, margin=2.0)
    assert re.search(r"c: not seen \(difference beyond 0\.96 points excluded\)", excluding.verdict)
    assert "p of equality" in excluding.markdown()
    assert "-9.83" in str(comparison)
    for text in (str(comparison), comparison.markdown()):
        assert "Paired by seed" in text or "95% interval" in text
    alone = Comparison("data", "model", "recipe", [0], machine, [entry("a", [0.8], []), entry("b", [0.7], [])], {})
    assert "may be luck" in alone.verdict
    assert alone.difference_rows() == []


@pytest.mark.parametrize(
    ("diverged", "verdict"),
    [
        ({"c": [0, 1]}, "A difference from a: b: undecided at this size .* c cannot be compared with a: too many"),
        ({"b": [0, 1], "c": [0, 1, 2]}, "^b and c cannot be compared with a: too many trainings diverged.$"),
        ({"a": [0, 1, 2]}, "^b and c cannot be compared with a"),
    ],
)
def test_a_verdict_names_the_arms_that_diverged(diverged: dict[str, list[int]], verdict: str) -> None:
    values = {"a": [0.8, 0.7, 0.75], "b": [0.7, 0.8, 0.75], "c": [0.6, 0.7, 0.6]}
    machine = {"hardware": "a machine", "torch": "2", "date": "today"}
    entries = [
        entry(name, [v for i, v in enumerate(values[name]) if i not in diverged.get(name, [])], diverged.get(name, []))
        for name in values
    ]
    comparison = Comparison("data", "model", "recipe", [0, 1, 2], machine, entries, {})
    assert re.search(verdict, comparison.verdict)
    assert str(comparison)
