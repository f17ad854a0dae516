import numpy as np
import pytest

import minimand as mm
from helpers import ALGORITHMS
from minimand.theory.stability import friction

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
    swinging = mm.certify(A.HeavyBall(momentum=lambda k: 0.5 + 0.3 * (-1) ** k), depth=16)
    assert swinging.zero_stable
    assert "at most 1.5 times" in swinging.reasons["zero_stable"]
    assert swinging.order is None
    assert mm.certify(ALGORITHMS["growing"], depth=8).zero_stable
    frictionless = mm.certify(A.HeavyBall(momentum=lambda k: 1 - 0.1 / (k + 1) ** 2), depth=16)
    assert not frictionless.zero_stable


def test_friction_is_that_of_the_limit_equation() -> None:
    """FISTA follows x'' + (3/t) x' = -grad (Su et al. 2016); k/(k + 3) has the same limit, k/(k + 5) friction 5."""
    assert friction(A.Fista()) == pytest.approx(3, rel=0.02)
    assert friction(A.Nesterov(momentum=lambda k: k / (k + 5))) == pytest.approx(5, rel=0.02)
    assert friction(A.HeavyBall()) is None
    assert friction(A.GradientDescent()) is None


def test_the_start_lowers_the_order() -> None:
    """Facts 3.4: with x_{-1} = x_0 and T_{-1} = 0 every row is of order 1 (measured here on y' = -y)."""
    for name in ("adams_bashforth2", "leapfrog"):
        found = mm.certify(name, depth=20)
        assert found.order == 2
        assert "its start is of order 1" in found.reasons["order"]
        errors = []
        for n in (64, 128):
            algorithm = A.builtin[name]()
            state = algorithm.start(1.0)
            for k in range(n):
                state = algorithm.step(state, lambda y, n=n: y / n, k)
            errors.append(abs(algorithm.read(state) - np.exp(-1)))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)


def test_verlet_is_of_second_order_in_time() -> None:
    assert "of order 2" in mm.certify("heavy_ball(momentum=1)").reasons["order"]
