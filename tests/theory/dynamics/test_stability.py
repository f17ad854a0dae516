import math

import numpy as np
import pytest

import minimand as mm
from helpers import ALGORITHMS
from minimand.theory.dynamics.second_order import friction
from minimand.theory.steps import Steps

A = mm.algorithms


def test_fista_is_not_zero_stable_and_capped_is() -> None:
    """Facts 3.5: the homogeneous growth of the uncapped schedule is proportional to depth."""
    uncapped = mm.certify("fista", depth=20)
    assert not uncapped.zero_stable
    assert "numerically" in uncapped.reasons["zero_stable"]
    capped = mm.certify("fista(cap=0.9)", depth=20)
    assert capped.zero_stable
    assert "from step 27 on" in capped.reasons["zero_stable"]  # where the schedule reaches 0.9
    assert A.Fista().momentum(27) > 0.9 > A.Fista().momentum(26)


def test_bounded_schedules_that_never_settle_are_judged_by_their_growth() -> None:
    swinging = mm.certify(A.HeavyBall(momentum=lambda k: 0.5 + 0.3 * math.sin(k * k)), depth=16)
    assert swinging.zero_stable
    assert "comes to an end" in swinging.reasons["zero_stable"]
    assert swinging.order is None
    # The answer of the first step is averaged into all later ones: its response is a harmonic sum.
    assert not mm.certify(ALGORITHMS["growing"], depth=8).zero_stable
    frictionless = mm.certify(A.HeavyBall(momentum=lambda k: 1 - 0.1 / (k + 1) ** 2), depth=16)
    assert not frictionless.zero_stable


def test_friction_is_that_of_the_limit_equation() -> None:
    """FISTA follows x'' + (3/t) x' = -grad (Su et al. 2016); k/(k + 3) has the same limit, k/(k + 5) friction 5."""
    assert friction(Steps(A.Fista()), 20) == pytest.approx(3, rel=0.02)
    assert friction(Steps(A.Nesterov(momentum=lambda k: k / (k + 5))), 20) == pytest.approx(5, rel=0.02)
    assert friction(Steps(A.HeavyBall()), 20) is None
    assert friction(Steps(A.GradientDescent()), 20) is None


def test_the_start_lowers_the_order() -> None:
    """Facts 3.4: with x_{-1} = x_0 and T_{-1} = 0 every row is of order 1 (measured here on y' = -y)."""
    for name in ("adams_bashforth2", "leapfrog"):
        certificate = mm.certify(name, depth=20)
        assert certificate.order == 2
        assert "with its start the network is of order 1" in certificate.reasons["order"]
        errors = []
        for n in (64, 128):
            algorithm = A.ALGORITHMS[name]()
            state = algorithm.start(1.0)
            for k in range(n):
                state = algorithm.step(state, lambda y, n=n: y / n, k)
            errors.append(abs(algorithm.read(state) - np.exp(-1)))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)


def test_verlet_is_of_second_order_in_time() -> None:
    assert "of order 2" in mm.certify("heavy_ball(momentum=1)").reasons["order"]


@pytest.mark.parametrize(
    ("tableau", "order"),
    [
        (((1,),), 1),
        (((0.5,), (0, 1)), 2),  # midpoint
        (((1,), (0.5, 0.5)), 2),  # Heun
        (((1 / 3,), (0, 2 / 3), (0.25, 0, 0.75)), 3),  # Heun's third
        (((0.5,), (0, 0.5), (0, 0, 1), (1 / 6, 1 / 3, 1 / 3, 1 / 6)), 4),  # Kutta
        (((0.5,), (0, 0.5), (0, 0, 1), (1 / 4, 1 / 4, 1 / 4, 1 / 4)), 2),
    ],
)
def test_runge_kutta_methods_have_the_order_that_an_integration_shows(tableau, order: int) -> None:
    """y' = 1 + y^2 from y(0) = 0.3, whose solution is tan: the slope of the error."""
    algorithm = A.RungeKutta(tableau=tableau)
    certificate = mm.certify(algorithm, depth=4)
    assert certificate.order == order
    assert certificate.speed == pytest.approx(1)

    def error(steps: int) -> float:
        y = 0.3
        for k in range(steps):
            y = algorithm.step(y, lambda q: -(q * q + 1) / steps, k)
        return abs(y - np.tan(np.arctan(0.3) + 1))

    assert np.log2(error(64) / error(128)) == pytest.approx(order, abs=0.15)


def test_several_answers_say_what_they_follow() -> None:
    """Facts 3.5: linearized ADMM follows x' = (T1 + T2) / 3, extragradient with a = 1/2 is of order 2."""
    certificate = mm.certify("linearized_admm")
    assert certificate.order is None
    assert "x' = -1/3 gradient_f - 1/3 gradient_g" in certificate.reasons["order"]
    shared = mm.certify("shared_admm")
    assert shared.order == 1
    assert "x' = -2/3 gradient" in shared.reasons["order"]
    assert [s.name for s in certificate.universal] == ["U1", "U2"]
    assert mm.certify("extragradient").order == 1
    assert mm.certify("extragradient(lookahead=0.5)").order == 2
    assert [round(abs(p.value), 6) for p in certificate.poles or ()] == [1.0, 0.5, 0.5]


def test_the_optimized_gradient_method_is_no_method_of_first_order_in_time() -> None:
    """Its momentum grows as FISTA's does: same limit of second order, same growth."""
    certificate = mm.certify("optimized_gradient")
    assert not certificate.zero_stable
    assert [s.name for s in certificate.universal] == ["U1", "U3"]


def test_dense_nesterov_is_the_matrix_of_the_facts() -> None:
    """Facts 1.1: rows h_2 to h_5."""
    rows = [
        [0, 1.28175],
        [0, 0.12229, 1.43404],
        [0, 0.06495, 0.23050, 1.53106],
        [0, 0.03889, 0.13802, 0.31799, 1.59878],
    ]
    for k, row in enumerate(rows, start=1):
        assert A.DenseNesterov().weights(k) == pytest.approx(row, abs=1e-5)
    memory = mm.certify("dense_nesterov", depth=8).memory
    assert memory == (1, 9)
    assert "grows from 1 to 9 tensors" in str(mm.certify("dense_nesterov", depth=8))
