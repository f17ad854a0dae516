from fractions import Fraction
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minimand as mm
from helpers import ALGORITHMS
from minimand.algorithms import is_map, is_proximal
from minimand.theory import stability_region

A = mm.algorithms


@pytest.mark.parametrize(
    ("algorithm", "limit"),
    [
        ("gradient_descent", 2.0),
        ("gradient_descent(step_size=0.001)", 2000.0),
        ("heavy_ball(step_size=1, momentum=0.5)", 3.0),  # 2 (1 + m) / s
        ("heavy_ball(momentum=1)", 4.0),  # Verlet
        ("nesterov(momentum=0.5)", 1.5),  # 2 (1 + m) / (1 + 2 m)
        ("adams_bashforth2", 1.0),  # Hairer & Wanner, V.1: [-1, 0]
        (A.LinearMultistep(rho=(1, -1, 0, 0), sigma=(23 / 12, -4 / 3, 5 / 12)), 6 / 11),
        ("runge_kutta", 2.785293563405282),
        ("leapfrog", 0.0),  # a part of the imaginary axis alone
    ],
)
def test_known_limits_on_the_real_axis(algorithm: str | mm.Algorithm, limit: float) -> None:
    assert stability_region(algorithm).largest_curvature == pytest.approx(limit, rel=1e-6)


def test_known_regions() -> None:
    mu = np.array([0.5j, 0.99j, 1.01j, -0.1])
    assert (stability_region("leapfrog").radius(mu / 2 * 2) <= 1 + 1e-9).tolist() == [True, True, False, False]
    disc = np.exp(1j * np.linspace(0, 6, 9))
    np.testing.assert_allclose(stability_region("gradient_descent").radius(0.7 * disc - 1), 0.7)
    fourth = stability_region("runge_kutta").radius(disc)
    np.testing.assert_allclose(fourth, abs(1 + disc + disc**2 / 2 + disc**3 / 6 + disc**4 / 24))


def test_an_implicit_step_is_bounded_for_every_curvature() -> None:
    region = stability_region(A.ProximalPoint(step_size=0.5))
    assert region.largest_curvature == np.inf
    assert "every curvature" in str(region)
    np.testing.assert_allclose(region.radius(np.array([-1, -10, 1j])), abs(1 / (1 - np.array([-1, -10, 1j]) / 2)))
    assert region.radius(np.array(2.0)) == np.inf  # 1 - mu / 2 = 0: no step


@cache
def constant() -> list[str]:
    explicit = [n for n, a in ALGORITHMS.items() if not any(is_map(o) or is_proximal(o) for o in a.oracles)]
    return [name for name in explicit if mm.certify(ALGORITHMS[name], depth=4).region]


@given(name=st.deferred(lambda: st.sampled_from(constant())), curvature=st.floats(0.01, 6))
def test_the_radius_is_how_fast_steps_on_a_quadratic_grow(name: str, curvature: float) -> None:
    algorithm = ALGORITHMS[name]
    radius = float(stability_region(algorithm, depth=4).radius(np.array(-curvature)))
    state: Any = algorithm.start_alone(1.0)
    sizes = []
    for k in range(160):
        state = algorithm.step(state, *[lambda x, c=curvature: c * x] * len(algorithm.oracles), k)
        sizes.append(abs(algorithm.read(state)))
    # The slowest mode of the state may be one that this start leaves out: the radius is an upper bound.
    assert max(sizes[-20:]) <= 200 * max(radius, 0.9) ** 150 * max(1, *sizes[:40])


def test_it_is_drawn() -> None:
    (axes,) = cast(Any, stability_region("runge_kutta").plot()).axes
    left, right = axes.get_xlim()
    assert left < -2.78
    assert right > 0.4
    assert "up to 2.785" in axes.get_title()
    small = cast(Any, stability_region("gradient_descent(step_size=0.001)").plot()).axes[0]
    assert small.get_xlim()[0] == pytest.approx(-2300, rel=0.05)


@pytest.mark.parametrize("algorithm", ["fista", "dense_nesterov", "yurii_former"])
def test_steps_that_do_not_repeat_have_no_region(algorithm: str) -> None:
    with pytest.raises(ValueError, match="no one stability region"):
        stability_region(algorithm)


class _Backward(mm.Algorithm):
    """Backward differentiation formulas: x_next = prox(sum of c_i x_(k-i), s)   (Hairer & Wanner, V.1-V.2)."""

    weights: tuple[Fraction, ...] = (Fraction(1),)
    step_size: mm.Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return (x,) * len(self.weights)

    def step(self, state: Any, prox: Any, k: int) -> Any:
        return prox(sum(c * x for c, x in zip(self.weights, state, strict=True)), self.step_size(k)), *state[:-1]

    def read(self, state: Any) -> Any:
        return state[0]


@pytest.mark.parametrize(
    ("weights", "step", "angle"),
    [
        ((1,), 1, 90),
        ((4 / 3, -1 / 3), 2 / 3, 90),
        ((18 / 11, -9 / 11, 2 / 11), 6 / 11, 86.03),
        ((48 / 25, -36 / 25, 16 / 25, -3 / 25), 12 / 25, 73.35),
        ((300 / 137, -300 / 137, 200 / 137, -75 / 137, 12 / 137), 60 / 137, 51.84),
    ],
)
def test_the_angles_of_backward_differentiation(weights: tuple[float, ...], step: float, angle: float) -> None:
    """The published A(alpha) of the formulas of one to five steps, and their orders."""
    algorithm = _Backward(weights=tuple(Fraction(c).limit_denominator(1000) for c in weights), step_size=step)
    region = stability_region(algorithm)
    assert region.angle == int(angle)
    assert mm.certify(algorithm).order == len(weights)
    assert ("A-stable" in str(region)) == (angle == 90)


def test_two_steps_backward_are_accelerated_proximal_points() -> None:
    """Momentum 1/3 and step size 2/3 make the formula of order 2."""
    two = _Backward(weights=(Fraction(4, 3), Fraction(-1, 3)), step_size=Fraction(2, 3))
    assert mm.equivalent(two, A.ProximalPoint(step_size=Fraction(2, 3), momentum=Fraction(1, 3)))
    assert mm.certify(A.ProximalPoint(step_size=Fraction(2, 3), momentum=Fraction(1, 3))).order == 2


def test_of_several_oracles_each_has_its_region() -> None:
    """The explicit part has that of its explicit method, the implicit part none; together the trapezoidal rule."""
    region = stability_region("proximal_gradient")
    mu = np.array([-0.3, -5, 2j, -1 + 3j])
    np.testing.assert_allclose(region.of("gradient").radius(mu), abs(1 + mu))
    np.testing.assert_allclose(region.of("prox").radius(mu), abs(1 / (1 - mu)))
    np.testing.assert_allclose(region.radius(mu), abs((1 + mu) / (1 - mu)))
    assert "alone: gradient up to 2, prox for every one" in str(region)
    with pytest.raises(ValueError, match="unknown oracle 'proxx'. Did you mean 'prox'"):
        region.of("proxx")


@settings(max_examples=6, deadline=None)
@given(name=st.sampled_from(["proximal_point", "douglas_rachford", "admm", "chambolle_pock"]), s=st.floats(0.01, 100))
def test_methods_of_prox_alone_are_stable_for_every_step_size(name: str, s: float) -> None:
    algorithm = mm.algorithms.as_algorithm(name).rebind(step_size=s)
    if name == "chambolle_pock":
        algorithm = algorithm.rebind(dual_step_size=1 / s)
    assert stability_region(algorithm).angle == 90
