import math

import pytest
from hypothesis import given, strategies as st

import minimand as mm
from helpers import ALGORITHMS, BINDINGS
from minimand.theory import distance
from minimand.theory.oracles import Binding

A = mm.algorithms
SINGLE = {name: a for name, a in ALGORITHMS.items() if math.isfinite(distance(a, "gradient_descent", depth=2))}


def test_momentum_against_none_by_hand() -> None:
    """Two layers of T0 and T1, written out."""
    m, s = 0.5, 2.0
    # Both ask at x, then at x + s T0. Heavy ball adds m (x1 - x0) = m s T0 to x + s T0 + s T1.
    assert distance(A.HeavyBall(s, m), A.GradientDescent(s), depth=2) == m * s
    # Another step size: query 1 differs by |s - 1| in T0, the output in T0 and T1.
    assert distance(A.GradientDescent(s), A.GradientDescent(1), depth=2) == 3 * abs(s - 1)


def test_under_the_operator_binding_the_states_differ_too() -> None:
    """gradient(x) = x - T(x): after one layer x - s x + s T, so both coefficients differ by |s - 1|."""
    bound = distance(A.GradientDescent(1.5), A.GradientDescent(1), depth=1, binding="operator")
    assert bound == 2 * 0.5


@given(
    names=st.tuples(*[st.sampled_from(sorted(SINGLE))] * 3),
    depth=st.integers(1, 6),
    binding=st.sampled_from(BINDINGS),
)
def test_it_is_a_metric(names: tuple[str, str, str], depth: int, binding: Binding) -> None:
    a, b, c = (SINGLE[name] for name in names)
    assert distance(a, a, depth, binding) == 0
    assert distance(a, b, depth, binding) == distance(b, a, depth, binding)
    through = distance(a, b, depth, binding) + distance(b, c, depth, binding)
    assert distance(a, c, depth, binding) <= through * (1 + 1e-12)
    match = mm.equivalent(a, b, depth)
    if match.exact:
        assert (distance(a, b, depth, binding) == 0) == (match.relation == "identical")


@given(sizes=st.lists(st.floats(-14, 0), min_size=3, max_size=3))
def test_the_triangle_inequality_has_no_tolerance(sizes: list[float]) -> None:
    a, b, c = (A.GradientDescent(2**0.5 * 10**size) for size in sizes)
    assert distance(a, c, 3) <= (distance(a, b, 3) + distance(b, c, 3)) * (1 + 1e-12)
    assert (distance(a, b, 3) == 0) == (a.step_size(0) == b.step_size(0))


def test_irrational_coefficients_of_the_same_network_differ_by_rounding_alone() -> None:
    root = 2**-0.5
    assert distance(A.HeavyBall(1 - root, root), A.MomentumResidual(1.0, root)) < 1e-10


@pytest.mark.parametrize("other", ["linearized_admm", "proximal_gradient", "extragradient"])
def test_other_oracles_or_more_answers_are_infinitely_far(other: str) -> None:
    assert distance("heavy_ball", other) == math.inf
