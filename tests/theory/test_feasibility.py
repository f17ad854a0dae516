"""Separability of threshold units, decided with a proof."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minimand as mm
from minimand.theory.feasibility import METHODS

_CUBE = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))


def _proves(unit: mm.theory.Separability, x: np.ndarray, t: np.ndarray) -> None:
    """Witness or certificate, by substitution."""
    counted = t != 0
    if unit.separable:
        assert (t[counted] * (x[counted] @ unit.weight + unit.bias) >= 1 - 1e-9).all()
        assert unit.certificate is None
    else:
        c = unit.certificate
        assert c is not None
        assert (c >= 0).all()
        assert c.sum() == pytest.approx(1)
        assert not c[~counted].any()
        assert np.abs((c * t) @ x).max() < 1e-5 * np.abs(x).max()
        assert abs(c @ t) < 1e-5


def test_the_functions_of_three_bits_that_a_threshold_has_are_104() -> None:
    """Counted by Winder and others: 104 of 256."""
    targets = np.array(list(itertools.product((-1.0, 1.0), repeat=8))).T
    result = mm.theory.feasibility(_CUBE, targets)
    for unit, t in zip(result.units, targets.T, strict=True):
        _proves(unit, _CUBE, t)
    assert sum(unit.separable is True for unit in result.units) == 104
    assert result.feasible is False
    assert len(result.infeasible_units) == 152


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 12), st.integers(1, 4), st.sampled_from([1e-6, 1.0, 1e5]), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_every_decision_is_proved(samples: int, length: int, size: float, planted: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = size * draw.normal(size=(samples, length))
    t = draw.choice([-1.0, 0.0, 1.0], samples, p=[0.45, 0.1, 0.45])
    if planted:
        t *= np.sign(x @ draw.normal(size=length)) * t
    (unit,) = mm.theory.feasibility(x, t).units
    assert unit.separable is not None
    assert unit.separable or not planted
    _proves(unit, x, t)


def test_the_largest_margin_is_that_of_the_nearest_points_of_the_hulls() -> None:
    """In the plane: the least distance between segments and points of two sets, by trying all."""
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=(2, 8, 2)) + np.array([[[-4.0, 0.0]], [[4.0, 1.0]]])
    x = np.concatenate([left, right])
    t = np.repeat([-1.0, 1.0], 8)
    shares = np.linspace(0, 1, 81)

    def hull(points: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [np.outer(shares, a) + np.outer(1 - shares, b) for a, b in itertools.combinations(points, 2)]
        )

    a, b = hull(left), hull(right)
    least = min(float(np.linalg.norm(a - point, axis=1).min()) for point in b)
    by_method = {name: mm.theory.feasibility(x, t, name).units[0].margin for name in METHODS}
    assert by_method["max_margin"] == pytest.approx(least / 2, rel=1e-3)
    assert by_method["max_margin"] >= by_method["linear_programming"] > 0
    assert by_method["max_margin"] >= by_method["perceptron"] > 0


def test_a_perceptron_does_not_decide_what_it_cannot_learn() -> None:
    parity = _CUBE.prod(1)
    result = mm.theory.feasibility(_CUBE, np.stack([_CUBE[:, 0], parity], 1), "perceptron")
    assert [unit.separable for unit in result.units] == [True, None]
    assert result.feasible is None
    assert str(result) == "undecided\n  unit 0: separable with margin 1\n  unit 1: undecided"


def test_the_same_input_with_two_targets_is_the_proof() -> None:
    (unit,) = mm.theory.feasibility(np.array([[1.0, 2.0], [0, 1], [1, 2]]), np.array([1, 1, -1])).units
    assert unit.separable is False
    assert unit.certificate is not None
    np.testing.assert_allclose(unit.certificate, [0.5, 0, 0.5], atol=1e-9)
    assert str(unit) == "not separable: 2 samples contradict it"


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"inputs has shape \(8, 3\) and targets \(7,\); expected"):
        mm.theory.feasibility(_CUBE, np.ones(7))
    with pytest.raises(ValueError, match="targets holds 2; expected 1, -1"):
        mm.theory.feasibility(_CUBE, np.full(8, 2))
    with pytest.raises(ValueError, match="Did you mean 'max_margin'"):
        mm.theory.feasibility(_CUBE, np.ones(8), "maxmargin")
    with pytest.raises(ValueError, match="not finite"):
        mm.theory.feasibility(_CUBE * np.inf, np.ones(8))
