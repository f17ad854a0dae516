"""The table of facts 3.4: rho, sigma, zero-stability and order of every algorithm that is built."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.polynomial import polynomial as P

import minimand as mm
from helpers import ALGORITHMS
from minimand.theory.dynamics.linear_system import LinearSystem, is_root_bounded, linear_system

A = mm.algorithms
M = Fraction(3, 5)
HALF = Fraction(1, 2)

# algorithm, m, b1, b0, zero-stable, order, rescaling of time
TABLE: list[tuple[Any, Any, Any, Any, bool, int | None, Any]] = [
    (A.GradientDescent(), 0, 1, 0, True, 1, 1),
    (A.HeavyBall(momentum=0.6), M, 1, 0, True, 1, 1 / (1 - M)),
    (A.MomentumResidual(momentum=0.6), M, 1 - M, 0, True, 1, 1),
    (A.HeavyBall(momentum=1), 1, 1, 0, False, None, None),
    (A.Leapfrog(), -1, 2, 0, True, 2, 1),
    (A.Nesterov(momentum=0.6), M, 1 + M, -M, True, 1, 1 / (1 - M)),
    (A.NesterovY(momentum=0.6), M, 1 + M, -M, True, 1, 1 / (1 - M)),
    (A.Fista(cap=0.6), M, 1 + M, -M, True, 1, 1 / (1 - M)),
    (A.HessianDamped(momentum=0.6, damping=0.5), M, 1 + HALF, -HALF, True, 1, 1 / (1 - M)),
    (A.HessianDamped(momentum=1, damping=0.5), 1, 1 + HALF, -HALF, False, None, None),
    (A.OptimisticGradient(), 0, 2, -1, True, 1, 1),
    (A.AdamsBashforth2(), 0, 3 * HALF, -HALF, True, 2, 1),
    (A.OrderTwoMomentum(momentum=0.6), M, (3 - M) / 2, -(1 + M) / 2, True, 2, 1),
    (A.QuasiHyperbolic(momentum=0.6, weight=0.25), M, 1 - M / 4, -3 * M / 4, True, 1, 1),
    (A.TripleMomentum(rate=0.5), Fraction(1, 6), Fraction(5, 3), Fraction(-1, 6), True, 1, Fraction(9, 5)),
    (A.GeneralMomentum(momentum=0.6, lookahead=0.5, readout=2), M, 1 + HALF, -HALF, True, 1, 1 / (1 - M)),
    (A.BDIA(), 0, 1, 0, True, 1, 1),
    (A.LinearMultistep(rho=(1, -1.6, 0.6), sigma=(0.8, -0.4)), M, 2 * (1 - M), M - 1, True, 1, 1),
]

# Several answers in a step, varying coefficients or growing memory: tested in test_stability.py.
NO_MULTISTEP = {
    *(A.RungeKutta, A.Extragradient, A.LinearizedADMM, A.MultiplierFreeADMM, A.SharedADMM, A.MergeAndRun),
    *(A.OptimizedGradient, A.DenseNesterov, A.DenseFormer, A.HyperConnections, A.Chebyshev),
    # Implicit: tested in test_proximal.py.
    *(A.ProximalGradient, A.ProximalFista, A.ProximalPoint, A.AcceleratedProximalPoint),
    *(A.DouglasRachford, A.ADMM, A.ChambollePock),
    # Normalized states, and no pole at 1.
    *(A.YuriiFormer, A.TripleMomentumFormer, A.InputInjection),
}


@pytest.mark.parametrize(("algorithm", "m", "b1", "b0", "stable", "order", "speed"), TABLE)
def test_table(algorithm: mm.Algorithm, m, b1, b0, stable: bool, order: int | None, speed) -> None:
    certificate = mm.certify(algorithm, depth=16)
    assert certificate.multistep is not None
    rho, sigma = certificate.multistep
    # As rational functions: the table's may share a factor z.
    expected_rho, expected_sigma = [1, -(1 + m), m], [b1, b0]
    assert _product(rho, expected_sigma) == _product(sigma, expected_rho)
    assert certificate.zero_stable is stable
    assert certificate.order == order
    assert certificate.speed == speed


def test_the_table_covers_every_algorithm() -> None:
    assert {type(row[0]) for row in TABLE} | NO_MULTISTEP == set(A.ALGORITHMS.values())


def _product(a, b) -> list[Fraction]:
    product = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += Fraction(x) * Fraction(y)
    while product and product[0] == 0:
        product.pop(0)
    return product


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_the_order_is_what_an_integration_shows(row) -> None:
    """Integrate y' = cos(y) with the multistep method from exact starting values and measure the error's slope."""
    algorithm, *_, order, speed = row
    if order is None:
        pytest.skip("no order for a first-order equation")
    multistep = mm.certify(algorithm, depth=16).multistep
    assert multistep is not None
    rho, sigma = (np.array([float(c) for c in p]) for p in multistep)
    speed = float(speed)

    def exact(t: float) -> float:  # y' = cos y, y(0) = 0
        return 2 * np.arctan(np.tanh(t / 2))

    errors = []
    for n in (64, 128):
        h = 1 / n
        y = [exact(i * h) for i in range(len(rho) - 1)]
        while len(y) <= n:
            # rho(E) y = h sigma(E) f / speed, solved for the newest value
            recent = y[-(len(rho) - 1) :][::-1]
            f = np.cos(recent[: len(recent)])
            padded = np.concatenate([np.zeros(len(rho) - 1 - (len(sigma) - 1)), sigma])[-len(recent) :]
            explicit = h / speed * float(padded @ f)
            y.append(explicit - float(rho[1:] @ np.array(recent)))
        errors.append(abs(y[n] - exact(1)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    "name", [n for n, a in ALGORITHMS.items() if linear_system(a) is not None and "scheduled" not in n]
)
def test_the_minimal_system_has_the_same_response(name: str) -> None:
    """Queries and output follow from A, B, C, D alike before and after the reduction."""
    full = linear_system(ALGORITHMS[name], 5)
    assert full is not None
    small = full.minimal
    assert small.size <= full.size
    np.testing.assert_allclose(_impulse(small), _impulse(full), atol=1e-9)
    assert small.minimal.size == small.size


def _impulse(system: LinearSystem) -> np.ndarray:
    a, b, c, start, read = (np.array(m, dtype=float) for m in (system.A, system.B, system.C, system.start, system.read))
    inputs = np.hstack([start, b])
    return np.stack([np.vstack([c, read]) @ np.linalg.matrix_power(a, k) @ inputs for k in range(6)])


def test_memory_that_grows_has_no_system() -> None:
    assert linear_system(ALGORITHMS["growing"]) is None


def test_what_no_query_sees_is_dropped() -> None:
    class Baggage(mm.Algorithm):
        """Heavy ball with an exploding tensor that nobody reads, and one that stays zero."""

        def start(self, x):
            return x, x, x, 0 * x

        def step(self, state, gradient, k):
            x, previous, unseen, zero = state
            return x - gradient(x) + 0.5 * (x - previous) + zero, x, 3 * unseen, 2 * zero

        def read(self, state):
            return state[0]

    system = linear_system(Baggage())
    assert system is not None
    assert (system.size, system.minimal.size) == (4, 2)
    assert mm.certify(Baggage()).zero_stable
    assert mm.identify(Baggage()).algorithm == A.HeavyBall(step_size=1.0, momentum=0.5)


@given(roots=st.lists(st.sampled_from([-1.5, -1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=3))
def test_poles_have_their_multiplicity(roots: list[float]) -> None:
    """A method whose characteristic polynomial is chosen: poles, multiplicities and the root condition."""
    ascending = P.polyfromroots(roots)

    class Chosen(mm.Algorithm):
        def start(self, x):
            return (x,) * len(roots)

        def step(self, state, gradient, k):
            new = gradient(state[0]) - sum(float(c) * s for c, s in zip(ascending[:-1][::-1], state, strict=True))
            return (new, *state[:-1])

        def read(self, state):
            return state[0]

    system = linear_system(Chosen())
    assert system is not None
    poles = {round(p.value.real, 6): p.multiplicity for p in system.minimal.poles}
    # A factor z may cancel against the answer's own delay; every other root shows.
    for root in set(roots) - {0.0}:
        assert poles[root] == roots.count(root)
    bounded = all(abs(r) < 1 or (abs(r) == 1 and roots.count(r) == 1) for r in roots)
    assert is_root_bounded(system.minimal.poles) is bounded


def test_two_independent_streams_may_both_have_a_pole_at_one() -> None:
    """The root condition is on the minimal polynomial: an eigenvalue 1 twice without a Jordan block is bounded."""

    class Parallel(mm.Algorithm):
        def start(self, x):
            return x, x

        def step(self, state, gradient_f, gradient_g, k):
            return state[0] - gradient_f(state[0]), state[1] - gradient_g(state[1])

        def read(self, state):
            return (state[0] + state[1]) / 2

    certificate = mm.certify(Parallel())
    assert certificate.zero_stable
    assert certificate.order is None
