"""Certificates depend on the network alone: not on how a state is written, on what nothing reads, or on types."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings, strategies as st

import minimand as mm
from minimand.algorithms import as_algorithm
from minimand.theory.dynamics.response import gains as gains_of
from minimand.theory.kernel import kernel

A = mm.algorithms
Rows = list[list[Fraction]]

_small = st.fractions(min_value=-2, max_value=2, max_denominator=4)


class Linear(mm.Algorithm):
    """Any method of one gradient a step: next = A state - b grad(c state), from start x, read as r state."""

    matrix: tuple = ()
    push: tuple = ()
    query: tuple = ()
    first: tuple = ()
    output: tuple = ()

    def start(self, x: Any) -> Any:
        return tuple(f * x for f in self.first)

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        answer = gradient(_sum(self.query, state))
        return tuple(_sum(row, state) - b * answer for row, b in zip(self.matrix, self.push, strict=True))

    def read(self, state: Any) -> Any:
        return _sum(self.output, state)


def _sum(factors: Any, state: Any) -> Any:
    return sum((f * s for f, s in zip(factors, state, strict=True)), start=0 * state[0])


@st.composite
def methods(draw: st.DrawFn) -> Linear:
    """A linear multistep method with a pole at 1, whose output is its last state, or any mix of its states."""
    n = draw(st.integers(1, 3))
    others = [draw(_small) for _ in range(n - 1)]
    newest = [1 - sum(others), *others]
    shift = [[Fraction(i == j) for j in range(n)] for i in range(n - 1)]
    push = (Fraction(1), *(Fraction(0) for _ in range(n - 1)))
    mix = [draw(_small) for _ in range(n - 1)]
    readout = (1 - sum(mix, Fraction(0)), *mix)
    return Linear(
        tuple(map(tuple, [newest, *shift])), push, readout, (Fraction(1),) * n, draw(st.sampled_from([readout, push]))
    )


def _in_other_terms(m: Linear, P: Rows, inverse: Rows) -> Linear:
    """The method with the state P s in the place of s."""

    def times(left: Any, right: Any) -> Any:
        return tuple(tuple(_sum(row, column) for column in zip(*right, strict=True)) for row in left)

    def of(row: Any) -> Any:
        return times([row], inverse)[0]

    def to(column: Any) -> Any:
        return tuple(_sum(row, column) for row in P)

    return Linear(times(times(P, m.matrix), inverse), to(m.push), of(m.query), to(m.first), of(m.output))


def _with_a_state(m: Linear, row: Any, push: Fraction, first: Fraction, share: Fraction = Fraction(0)) -> Linear:
    """The method with one more state, which the queries read by a share of its distance from the one it copies."""
    matrix = (*((*old, Fraction(0)) for old in m.matrix), tuple(row))
    query = (m.query[0] - share, *m.query[1:], share)
    return Linear(matrix, (*m.push, push), query, (*m.first, first), (*m.output, Fraction(0)))


def _facts(algorithm: mm.Algorithm, depth: int) -> tuple:
    c = mm.certify(algorithm, depth=depth)
    poles = None if c.poles is None else [(round(p.value.real, 6), round(abs(p.value.imag), 6)) for p in c.poles]
    inverse = c.inverse.kind, c.inverse.stored
    region = None if c.region is None else round(c.region.largest_curvature, 4)
    names = [s.name for s in c.statements], [s.name for s in c.universal]
    return c.consistent, c.zero_stable, c.order, c.speed, c.gains, c.multistep, poles, inverse, region, names


@settings(max_examples=12, phases=[Phase.generate], deadline=None)
@given(m=methods(), depth=st.integers(4, 9), a=_small, b=_small)
def test_a_change_of_state_changes_nothing(m: Linear, depth: int, a: Fraction, b: Fraction) -> None:
    n = len(m.push)
    lower = [[Fraction(i == j) + a * (i == j + 1) for j in range(n)] for i in range(n)]
    upper = [[Fraction(i == j) + b * (j == i + 1) for j in range(n)] for i in range(n)]
    P = [[_sum(row, column) for column in zip(*upper, strict=True)] for row in lower]
    inverse = [[Fraction(str(x)) for x in row] for row in _inverse(P)]
    other = _in_other_terms(m, P, inverse)
    assert mm.equivalent(m, other, depth).relation == "identical"
    assert _facts(m, depth) == _facts(other, depth)


def _inverse(P: Rows) -> Rows:
    from minimand.theory.dynamics.exact import Exact

    return [list(row) for row in Exact.of(P).inverse.rows]


@settings(max_examples=12, phases=[Phase.generate], deadline=None)
@given(m=methods(), depth=st.integers(4, 9), row=st.lists(_small, min_size=4, max_size=4), push=_small, first=_small)
def test_a_state_that_nothing_reads_changes_nothing(
    m: Linear, depth: int, row: list[Fraction], push: Fraction, first: Fraction
) -> None:
    """Whatever it holds: a sum of the iterates, or what grows without bound."""
    other = _with_a_state(m, row[: len(m.push) + 1], push, first)
    assert mm.equivalent(m, other, depth).relation == "identical"
    assert _facts(m, depth) == _facts(other, depth)


@settings(max_examples=8, phases=[Phase.generate], deadline=None)
@given(m=methods(), depth=st.integers(4, 9), share=_small)
def test_a_state_that_is_held_twice_changes_nothing(m: Linear, depth: int, share: Fraction) -> None:
    copy = _with_a_state(m, (*m.matrix[0], Fraction(0)), m.push[0], m.first[0], share)
    assert mm.equivalent(m, copy, depth).relation == "identical"
    assert _facts(m, depth) == _facts(copy, depth)


class Chosen(mm.Algorithm):
    """Heavy ball whose step sizes and momenta functions give, in the step itself: it ends with them."""

    step_sizes: Any = None
    momentum_of: Any = None

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        return x - self.step_sizes(k) * gradient(x) + self.momentum_of(k) * (x - previous), x

    def read(self, state: Any) -> Any:
        return state[0]


@pytest.mark.parametrize(
    "number",
    [
        lambda v: Fraction(v),
        lambda v: float(v),
        lambda v: np.float64(float(v)),
        lambda v: np.float32(float(v)),
        lambda v: np.array([float(v)])[0],
    ],
)
def test_numbers_of_every_type_are_exact(number: Callable[[Fraction], Any]) -> None:
    step_size, momentum = Fraction(3, 10), Fraction(9, 10)
    exact = Chosen(lambda k: step_size, lambda k: momentum)
    other = Chosen(lambda k: number(step_size), lambda k: number(momentum))
    match = mm.equivalent(exact, other)
    assert match.relation == "identical"
    assert match.exact
    assert mm.certify(other, depth=6).gains == mm.certify(exact, depth=6).gains
    named = A.HeavyBall(number(step_size), number(momentum))
    assert mm.equivalent(exact, named).relation == "identical"
    assert mm.theory.pulses(named) == mm.theory.pulses(A.HeavyBall(0.3, 0.9))


def test_fractions_are_identified() -> None:
    result = mm.identify(A.HeavyBall(Fraction(3, 10), Fraction(9, 10)), depth=8)
    assert any(match.second.startswith("QuasiHyperbolic(step_size=3.0, momentum=0.9") for match in result.matches)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.int8])
def test_integers_of_numpy_do_not_wrap(kind: type) -> None:
    table = np.array([3, 2, 5, 7], dtype=kind)
    plain, numpy = (Chosen(lambda k, t=t: t[k % 4], lambda k, t=t: t[k % 4]) for t in ([3, 2, 5, 7], table))
    gains = [kernel(algorithm, 40).output.terms for algorithm in (plain, numpy)]
    assert gains[0].keys() == gains[1].keys()
    assert all(gains[0][atom] == gains[1][atom] for atom in gains[0])
    assert mm.certify(numpy, depth=8).gains == mm.certify(plain, depth=8).gains


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 10, 21])
def test_nothing_is_asked_of_a_step_beyond_the_network(depth: int) -> None:
    """Of its own table, of a recursion that overflows, of numbers that are none; a schedule may be extended."""
    numbers = set()

    def table(k: int) -> float:
        numbers.add(k)
        return [0.5 / (1 + i % 7) for i in range(depth)][k]

    algorithm = Chosen(table, table)
    certificate = mm.certify(algorithm, depth=depth)
    assert certificate.consistent
    assert len(str(certificate).splitlines()) > 5
    mm.equivalent(algorithm, "heavy_ball", depth)
    if depth == 3:  # it takes its time
        mm.identify(algorithm, depth)
    assert max(numbers) == depth - 1

    def overflows(k: int) -> float:
        return 0.5 if k < depth else 1e308 * 1e308

    assert mm.certify(Chosen(overflows, overflows), depth=depth).consistent
    assert mm.certify(A.HeavyBall(overflows, lambda k: 0.5 if k < depth else 1 / (k - k)), depth=depth).zero_stable


@pytest.mark.parametrize("period", [2, 3, 5])
def test_periods_are_exact(period: int) -> None:
    """Lookahead: every so many steps the fast weights go half the way back; one state is left of two."""

    class Lookahead(mm.Algorithm):
        def start(self, x):
            return x, x

        def step(self, state, gradient, k):
            fast, slow = state
            fast = fast - 0.5 * gradient(fast)
            if k % period == period - 1:
                slow = slow + 0.5 * (fast - slow)
                fast = slow
            return fast, slow

        def read(self, state):
            return state[0]

    certificate = mm.certify(Lookahead(), depth=4 * period)
    assert certificate.zero_stable
    assert [p.value for p in certificate.poles or ()] == [1]
    assert f"over {period} steps" in certificate.reasons["zero_stable"]
    assert certificate.order == (2 if period == 2 else 1)  # (1 + (1 - h / 2)^2) / 2 agrees with exp(-h / 2)
    assert certificate.speed == Fraction(period, 4)
    assert [s.name for s in certificate.universal] == ["U1", "U2"]
    # Steps on a quadratic: half of 1 and half of what the steps of the period leave.
    region = certificate.region
    assert region is not None
    np.testing.assert_allclose(region.radius(np.array(-0.6)), 0.5 + 0.5 * 0.7**period)


@pytest.mark.parametrize("power", [0.05, 0.25, 1.0])
def test_what_grows_slowly_is_not_zero_stable(power: float) -> None:
    growing = A.GradientDescent(step_size=lambda k: (k + 1) ** power)
    assert not mm.certify(growing, depth=20).zero_stable
    assert mm.certify(A.GradientDescent(step_size=lambda k: 2 - (k + 1) ** -power), depth=20).zero_stable or power < 0.5


def test_u3_needs_a_push_that_lasts() -> None:
    """Halpern's iteration and schedule-free averaging have gains whose sum is about N / 2, not of size N^2."""

    class Halpern(mm.Algorithm):
        endless = True

        def start(self, x):
            return x, x

        def step(self, state, gradient, k):
            x, first = state
            return first / (k + 2) + (1 - Fraction(1, k + 2)) * (x - gradient(x)), first

        def read(self, state):
            return state[0]

    class Averaged(Halpern):
        def step(self, state, gradient, k):
            x, z = state
            z = z - 0.5 * gradient(0.9 * x + 0.1 * z)
            return x + (z - x) / (k + 1), z

    for algorithm in (Halpern(), Averaged()):
        assert "U3" not in [s.name for s in mm.certify(algorithm, depth=20).universal]
    for name in ("fista", "optimized_gradient"):
        assert "U3" in [s.name for s in mm.certify(name, depth=20).universal]
        sums = [float(gains_of(as_algorithm(name), n).sum()) / n**2 for n in (25, 50)]
        assert sums[1] == pytest.approx(sums[0], rel=0.1)


def test_the_start_of_several_step_methods_counts_as_an_integration_shows() -> None:
    class Bashforth3(mm.Algorithm):
        """Adams-Bashforth of three steps, started by two of Euler."""

        def start(self, x):
            return x, 0 * x, 0 * x

        def step(self, state, gradient, k):
            x, before, earlier = state
            answer = gradient(x)
            if k < 2:
                return x - answer, answer, before
            return x - (23 * answer - 16 * before + 5 * earlier) / 12, answer, before

        def read(self, state):
            return state[0]

    certificate = mm.certify(Bashforth3(), depth=20)
    assert certificate.order == 3
    assert "with its start the network is of order 2" in certificate.reasons["order"]
    assert "error constant 3/8" in certificate.reasons["order"]

    def error(n: int) -> float:
        algorithm = Bashforth3()
        state = algorithm.start(1.0)
        for k in range(n):
            state = algorithm.step(state, lambda y: y / n, k)
        return abs(algorithm.read(state) - np.exp(-1))

    assert np.log2(error(128) / error(256)) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("starts", [False, True])
def test_the_order_of_steps_with_memory_and_several_answers_is_what_an_integration_shows(starts: bool) -> None:
    class Corrected(mm.Algorithm):
        """Adams-Bashforth of two steps, corrected by Adams-Moulton of order 3; started by the midpoint rule or not."""

        def start(self, x):
            return x, 0 * x

        def step(self, state, gradient, k):
            x, before = state
            answer = gradient(x)
            if starts and k == 0:
                return x - gradient(x - answer / 2), answer
            return x - (5 * gradient(x - 1.5 * answer + 0.5 * before) + 8 * answer - before) / 12, answer

        def read(self, state):
            return state[0]

    certificate = mm.certify(Corrected(), depth=20)
    assert certificate.order == (3 if starts else 1)
    assert certificate.reasons["order"].startswith("numerically, of the network with its start: a step with memory")

    def error(n: int) -> float:
        algorithm = Corrected()
        state = algorithm.start(1.0)
        for k in range(n):
            state = algorithm.step(state, lambda y: y * y / n, k)
        return abs(algorithm.read(state) - 0.5)

    assert np.log2(error(128) / error(256)) == pytest.approx(certificate.order, abs=0.1)


def test_a_tolerance_is_relative() -> None:
    small, other = A.GradientDescent(2**0.5 * 1e-10), A.HeavyBall(2**0.5 * 1e-10, 3**0.5 * 1e-3)
    assert mm.equivalent(small, other).relation == "different"
    assert mm.equivalent(small, A.GradientDescent(2**0.5 * 3**0.5 * 1e-10)).relation == "rescaled"
    assert [s.name for s in mm.certify(small, depth=5).universal] == ["U1", "U2"]


@pytest.mark.parametrize(
    "question", [mm.identify, mm.theory.stability_region, lambda a, depth: mm.theory.distance(a, a, depth)]
)
def test_a_network_has_layers(question: Any) -> None:
    with pytest.raises(ValueError, match="depth is 0; expected at least 1"):
        question("heavy_ball", depth=0)
