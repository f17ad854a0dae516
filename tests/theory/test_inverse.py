"""The table of facts 4, and closed forms tried on states."""

from typing import Any

import numpy as np
import pytest

import minimand as mm
from helpers import ALGORITHMS

A = mm.algorithms


@pytest.mark.parametrize(
    ("algorithm", "kind", "lipschitz"),
    [
        (A.HeavyBall(), "closed form", None),
        (A.MomentumResidual(), "closed form", None),
        (A.HeavyBall(momentum=1), "closed form", None),
        (A.Leapfrog(), "closed form", None),
        (A.GradientDescent(), "fixed point", 1),
        (A.GradientDescent(step_size=0.25), "fixed point", 4),
        (A.HeavyBall(momentum=0), "fixed point", 1),
        (A.Nesterov(), "fixed point", 1),
        (A.NesterovY(), "fixed point", 1),
        (A.OptimisticGradient(), "none", None),
        (A.AdamsBashforth2(), "none", None),
        # DIN: |b0| Lip T < |m|
        (A.HessianDamped(momentum=0.6, damping=0.3), "fixed point", 2),
        (ALGORITHMS["growing"], "none", None),
    ],
    ids=str,
)
def test_table(algorithm: mm.Algorithm, kind: str, lipschitz: float | None) -> None:
    found = mm.certify(algorithm).inverse
    assert found.kind == kind
    assert found.lipschitz == (None if lipschitz is None else pytest.approx(lipschitz))
    assert mm.certify(algorithm).reversible is (kind == "closed form")


def test_fista_loses_a_state_where_its_momentum_is_zero() -> None:
    found = mm.certify("fista").inverse
    assert (found.kind, found.lipschitz, found.stored) == ("fixed point", 1, (1,))


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        (A.GradientDescent(), "none"),  # x_next = T(x): T itself would have to be inverted
        (A.GradientDescent(step_size=0.25), "fixed point"),
        (A.HeavyBall(), "closed form"),
        (A.Leapfrog(), "closed form"),
    ],
    ids=str,
)
def test_operator_binding(algorithm: mm.Algorithm, kind: str) -> None:
    assert mm.certify(algorithm, binding="operator").inverse.kind == kind


def test_the_operator_bound_is_that_of_the_damped_map() -> None:
    """x_next = (1 - s) x + s T(x): x = (x_next - s T(x)) / (1 - s) contracts if Lip T < (1 - s) / s."""
    found = mm.certify(A.GradientDescent(step_size=0.25), binding="operator").inverse
    assert found.lipschitz == pytest.approx(3)


def test_the_bound_is_sharp() -> None:
    """With T(x) = -c x the step of gradient descent, x - c x, loses everything exactly at Lip T = c = 1/bound."""
    for s in (0.5, 2.0):
        bound = mm.certify(A.GradientDescent(step_size=s)).inverse.lipschitz
        assert bound is not None
        assert 1 - s * bound == pytest.approx(0)


def test_closed_forms_run_backwards() -> None:
    """x_{k-1} = ((1 + m) x_k - x_{k+1} + b1 T(x_k)) / m for heavy ball and leapfrog (facts 4)."""
    rng = np.random.default_rng(0)
    for algorithm, m, b1 in ((A.HeavyBall(momentum=0.8), 0.8, 1), (A.Leapfrog(), -1, 2)):
        x, previous = rng.normal(size=(2, 5))
        new, kept = algorithm.step((x, previous), lambda q: -np.tanh(q), 3)
        np.testing.assert_allclose(((1 + m) * kept - new + b1 * np.tanh(kept)) / m, previous, atol=1e-12)


class _Admm(mm.Algorithm):
    """Linearized ADMM (facts 3.5): z, then y with the new z, then the multiplier."""

    def start(self, x: Any) -> Any:
        return x, x, 0 * x

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        z, y, multiplier = state
        z_next = (z - gradient_f(z) + y - multiplier) / 2
        y_next = (y - gradient_g(y) + multiplier + z_next) / 2
        return z_next, y_next, multiplier + z_next - y_next

    def read(self, state: Any) -> Any:
        return state[1]


def test_several_oracles_are_inverted_one_after_the_other() -> None:
    """Facts 4: lam from the three new values; y from y + T2(y); then z from z + T1(z): Lip < 1."""
    found = mm.certify(_Admm())
    assert found.inverse.kind == "fixed point"
    assert found.inverse.lipschitz == pytest.approx(1)
    assert found.zero_stable
    assert found.consistent
    assert sorted(round(abs(p.value), 6) for p in found.poles or ()) == [0.5, 0.5, 1.0]
