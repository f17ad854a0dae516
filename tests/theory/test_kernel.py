from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import minimand as mm
from helpers import ALGORITHMS
from minimand.theory.dynamics.response import response
from minimand.theory.kernel import INPUT, Answer, kernel
from minimand.theory.scalars import Number

# Facts 3.4: x_next = (1 + m) x - m x_previous + b1 T(x) + b0 T_previous.
MASTER = {
    "gradient_descent": (lambda m: 0, lambda m: 1, lambda m: 0),
    "heavy_ball": (lambda m: m, lambda m: 1, lambda m: 0),
    "momentum_residual": (lambda m: m, lambda m: 1 - m, lambda m: 0),
    "leapfrog": (lambda m: -1, lambda m: 2, lambda m: 0),
    "hessian_damped": (lambda m: m, lambda m: 1.5, lambda m: -0.5),
    "optimistic_gradient": (lambda m: 0, lambda m: 2, lambda m: -1),
    "adams_bashforth2": (lambda m: 0, lambda m: 1.5, lambda m: -0.5),
}


@pytest.mark.parametrize("name", MASTER)
@given(m=st.sampled_from([-0.5, 0.25, 0.9, 1.0]), depth=st.integers(1, 12))
def test_gains_are_the_closed_form(name: str, m: float, depth: int) -> None:
    """w_k = b1 s_r + b0 s_{r-1}, r = L - 1 - k, s_r = (1 - m^{r+1}) / (1 - m) (facts 3.4)."""
    algorithm = mm.algorithms.ALGORITHMS[name]()
    if "momentum" in algorithm.coefficients():
        algorithm = algorithm.rebind(momentum=m)
    own, b1, b0 = (f(m) for f in MASTER[name])

    def s(r: int) -> float:
        return sum(own**i for i in range(r + 1))

    expected = [b1 * s(depth - 1 - k) + b0 * s(depth - 2 - k) for k in range(depth)]
    assert mm.certify(algorithm, depth=depth).gains == pytest.approx(expected, abs=1e-12)


def test_nesterov_reads_out_x() -> None:
    """The gain to x_L = y_{L-1} + T(y_{L-1}) is s_{L-1-k} (facts 3.4, gains)."""
    m, depth = 0.75, 9
    expected = [sum(m**i for i in range(depth - k)) for k in range(depth)]
    for algorithm in (mm.algorithms.Nesterov(momentum=m), mm.algorithms.NesterovY(momentum=m)):
        assert mm.certify(algorithm, depth=depth).gains == pytest.approx(expected, abs=1e-12)


def test_fista_has_the_published_sequence() -> None:
    """b_1 .. b_8 and the row sums of the dense form (facts 1.1)."""
    fista = mm.algorithms.Fista()
    published = [0, 0.28175, 0.43404, 0.53106, 0.59878, 0.64892, 0.68765, 0.71850]
    assert [fista.momentum(k) for k in range(1, 9)] == pytest.approx(published, abs=6e-6)
    k = kernel(fista, 41)
    for steps, total in ((10, 3.405), (20, 5.975), (40, 11.05)):
        # y_k - y_{k-1} moves by the row sum of h when every gradient is 1.
        move = k.queries[steps].point - k.queries[steps - 1].point
        assert -sum(float(c) for a, c in move.terms.items() if a != INPUT) == pytest.approx(total, abs=6e-3)


def test_dense_rows_of_fista() -> None:
    """h rows (facts 1.1): the moves of y as combinations of the gradients."""
    k = kernel(mm.algorithms.Fista(), 6)
    rows = {2: [0, 1.28175], 3: [0, 0.12229, 1.43404], 4: [0, 0.06495, 0.23050, 1.53106]}
    for row, expected in rows.items():
        move = k.queries[row].point - k.queries[row - 1].point
        weights = [-float(move.coefficient(Answer(j, "gradient", 0))) for j in range(row)]
        assert weights == pytest.approx(expected, abs=6e-6)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_kernel_in_floats_is_the_exact_one(name: str) -> None:
    algorithm, depth = ALGORITHMS[name], 7
    k, r = kernel(algorithm, depth), response(ALGORITHMS[name], depth)
    atoms = [INPUT, *(q.answer for q in k.queries)]
    exact = [[float(p.coefficient(a)) for a in atoms] for p in (*(q.point for q in k.queries), k.output)]
    np.testing.assert_allclose(r, exact, atol=1e-9)


def test_the_operator_binding_substitutes_the_block() -> None:
    """gradient(x) = x - T(x) turns gradient descent with step 1 into x_next = T(x), and keeps 1 - s of x."""
    k = kernel(mm.algorithms.GradientDescent(step_size=0.25), 3, "operator")
    last = k.output
    assert last.coefficient(INPUT).same(0.75**3)
    assert [float(g) for g in k.gains.values()] == pytest.approx([0.25 * 0.75**2, 0.25 * 0.75, 0.25])


def test_prox_is_an_implicit_answer() -> None:
    class ProximalPoint(mm.Algorithm):
        step_size: mm.Coefficient = 0.5

        def start(self, x):
            return x

        def step(self, state, prox, k):
            return prox(state, self.step_size(k))

        def read(self, state):
            return state

    k = kernel(ProximalPoint(), 2)
    first, second = k.queries
    assert first.point.coefficient(first.answer).same(-0.5)  # the query is the new point itself
    assert second.point.coefficient(first.answer).same(-0.5)
    bound = kernel(ProximalPoint(), 1, "operator")  # p = (x + s T(p)) / (1 + s)
    assert bound.output.coefficient(INPUT).same(Number.of(2) / 3)
    certificate = mm.certify(ProximalPoint())
    assert certificate.multistep == ((1, -1), (0.5, 0))
    assert certificate.order == 1


def test_memory_that_grows_is_counted() -> None:
    assert kernel(ALGORITHMS["growing"], 4).memory == (1, 2, 3, 4, 5)
    assert kernel(ALGORITHMS["heavy_ball"], 4).memory == (2,) * 5


@pytest.mark.parametrize(("depth", "binding", "message"), [(0, None, "depth is 0"), (3, "x", "unknown binding 'x'")])
def test_bad_input(depth: int, binding, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel(mm.algorithms.HeavyBall(), depth, binding)


class _Listed(mm.Algorithm):
    """Heavy ball whose state is a list within a list."""

    def start(self, x: Any) -> Any:
        return [x, [x]]

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, (previous,) = state
        return [x - gradient(x) + (x - previous) / 2, [x]]

    def read(self, state: Any) -> Any:
        return state[0]


class _Growing(_Listed):
    """A list of all states."""

    def start(self, x: Any) -> Any:
        return [x]

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        return [*state, state[-1] - gradient(sum(state) / len(state))]

    def read(self, state: Any) -> Any:
        return state[-1]


def test_a_state_may_be_a_list() -> None:
    assert mm.equivalent(_Listed(), "heavy_ball")
    assert mm.certify(_Listed(), depth=8).reversible
    assert mm.certify(_Growing(), depth=8).memory == (1, 9)


@pytest.mark.parametrize("depth", [2.0, "3", True, None, 0])
def test_a_depth_that_is_none_is_named_everywhere(depth: Any) -> None:
    for ask in (
        lambda: mm.certify("heavy_ball", depth),
        lambda: kernel("heavy_ball", depth),
        lambda: mm.identify("heavy_ball", depth),
        lambda: mm.equivalent("heavy_ball", "nesterov", depth),
        lambda: mm.theory.distance("heavy_ball", "nesterov", depth),
    ):
        with pytest.raises((TypeError, ValueError), match=f"depth is {depth!r}; expected"):
            ask()


@pytest.mark.parametrize("size", [2.0, "3", True, 0])
def test_a_size_that_is_none_is_named(size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"width is {size!r}; expected"):
        mm.certify("heavy_ball", 4, width=size)


@pytest.mark.parametrize("huge", [10**400, -Fraction(10**400, 3), lambda k: 10**400])
def test_a_coefficient_that_no_tensor_holds_is_not_finite(huge: Any) -> None:
    with pytest.raises(ValueError, match=r"momentum.* is -?inf; expected a finite number"):
        mm.certify(mm.algorithms.HeavyBall(momentum=huge), depth=4)
