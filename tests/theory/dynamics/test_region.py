from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, strategies as st

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
    class ProximalPoint(mm.Algorithm):
        def start(self, x):
            return x

        def step(self, state, prox, k):
            return prox(state, 0.5)

        def read(self, state):
            return state

    region = stability_region(ProximalPoint())
    assert region.largest_curvature == np.inf
    assert "every curvature" in str(region)
    np.testing.assert_allclose(region.radius(np.array([-1, -10, 1j])), abs(1 / (1 - np.array([-1, -10, 1j]) / 2)))
    assert region.radius(np.array(2.0)) == np.inf  # 1 - mu / 2 = 0: no step


CONSTANT = [
    name
    for name, a in ALGORITHMS.items()
    if not any(map(is_map, a.oracles)) and not any(map(is_proximal, a.oracles)) and mm.certify(a, depth=4).region
]


@given(name=st.sampled_from(CONSTANT), curvature=st.floats(0.01, 6))
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
