"""The table of facts 4, and closed forms tried on states."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minimand as mm
from helpers import ALGORITHMS, BINDINGS
from minimand.theory.dynamics.linear_system import LinearSystem, linear_system
from minimand.theory.kernel import Binding

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
    inverse = mm.certify(algorithm).inverse
    assert inverse.kind == kind
    assert inverse.lipschitz == (None if lipschitz is None else pytest.approx(lipschitz))
    assert mm.certify(algorithm).reversible is (kind == "closed form")


@pytest.mark.parametrize(
    ("algorithm", "depth", "growth"),
    [
        (A.HeavyBall(momentum=0.5), 24, 2.0**24),  # 1.7e7: facts on splittings
        (A.HeavyBall(momentum=0.9), 20, 0.9**-20),
        (A.HeavyBall(momentum=1), 50, 1),
        (A.Leapfrog(), 50, 1),
        (A.HeavyBall(momentum=lambda k: 0.5 if k < 3 else 0.8), 13, 0.5**-3 * 0.8**-10),
        (A.HeavyBall(momentum=lambda k: 0.5 if k % 2 else 0.8), 12, 0.4**-6),
        (A.HeavyBall(momentum=lambda k: 1 - 1 / (k + 2)), 12, 13),
    ],
)
def test_rounding_grows_by_the_smallest_pole(algorithm: mm.Algorithm, depth: int, growth: float) -> None:
    backwards = mm.certify(algorithm, depth=depth).inverse
    assert backwards.growth == pytest.approx(growth)
    assert ("rounding grows" in str(backwards)) == (growth > 1)


def test_what_nothing_reads_again_need_not_come_back() -> None:
    """Where its momentum is 0 FISTA forgets a state; running back, x_0 follows from x_1 alone."""
    inverse = mm.certify("fista").inverse
    assert (inverse.kind, inverse.lipschitz, inverse.stored) == ("fixed point", 1, ())

    class Unread(A.HeavyBall):
        def start(self, x: Any) -> Any:
            return x, x, x

        def step(self, state: Any, gradient: Any, k: int) -> Any:
            x, previous, _ = state
            return x - self.step_size(k) * gradient(x) + self.momentum(k) * (x - previous), x, previous

    assert mm.certify(Unread(momentum=lambda k: 0.5 + 0.3 * (-1) ** k)).inverse.kind == "closed form"


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
    inverse = mm.certify(A.GradientDescent(step_size=0.25), binding="operator").inverse
    assert inverse.lipschitz == pytest.approx(3)


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
        new, before = algorithm.step((x, previous), lambda q: -np.tanh(q), 3)
        np.testing.assert_allclose(((1 + m) * before - new + b1 * np.tanh(before)) / m, previous, atol=1e-12)


def test_several_oracles_are_inverted_one_after_the_other() -> None:
    """Facts 4: lam from the three new values; y from y + T2(y); then z from z + T1(z): Lip < 1."""
    inverse = mm.certify("linearized_admm").inverse
    assert inverse.kind == "fixed point"
    assert inverse.lipschitz == pytest.approx(1)


class _Coupled(mm.Algorithm):
    """Two states and two oracles, the second asked with the answer of the first, all with weights of a test."""

    weights: tuple[float, ...] = ()

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        x, y = state
        w = self.weights
        f = gradient_f(w[0] * x + w[1] * y)
        g = gradient_g(w[2] * x + w[3] * y + w[4] * f)
        return w[5] * x + w[6] * y + w[7] * f + w[8] * g, w[9] * x + w[10] * y + w[11] * f + w[12] * g

    def read(self, state: Any) -> Any:
        return state[0]


_weight = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0])


@settings(deadline=None, max_examples=40)
@given(
    weights=st.tuples(*[_weight] * 13),
    slopes=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    binding=st.sampled_from(BINDINGS),
)
def test_a_step_within_its_bound_loses_nothing(weights: tuple[float, ...], slopes, binding: Binding) -> None:
    """With T_i(x) = c_i x, |c_i| below the bound, the step is a matrix: it has to be regular."""
    algorithm = _Coupled(weights)
    try:
        verdict = mm.certify(algorithm, depth=3, binding=binding).inverse
        system = linear_system(algorithm)
    except ValueError:  # nothing is read, or nothing reaches the output
        return
    if verdict.kind == "none" or system is None:
        return
    bound = 10.0 if verdict.lipschitz is None else 0.99 * verdict.lipschitz
    minimal = system.minimal
    A_, B, C, D = (np.array(m, dtype=float).reshape(shape) for m, shape in _shaped(minimal))
    T = bound * np.diag(slopes)
    answer = -T if binding == "residual" else np.eye(2) - T
    closed = np.eye(2) - D @ answer
    step = A_ + B @ answer @ np.linalg.solve(closed, C)
    assert np.linalg.svd(step, compute_uv=False).min() > 1e-9


def _shaped(system: LinearSystem) -> list[tuple[Any, tuple[int, int]]]:
    n = system.size
    return [(system.A, (n, n)), (system.B, (n, 2)), (system.C, (2, n)), (system.D, (2, 2))]
