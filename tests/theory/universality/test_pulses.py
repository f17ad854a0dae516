from collections.abc import Callable

import numpy as np
import pytest

import minimand as mm
from helpers import ALGORITHMS
from minimand.algorithms import Algorithm, is_map
from sweeps import thin

_CASES = [(name, oracle) for name, a in ALGORITHMS.items() for oracle in a.oracles if not is_map(oracle)]


@pytest.mark.parametrize(
    ("name", "oracle"), thin(_CASES, [case for case in _CASES if "learnable" not in case[0] or "heavy" in case[0]])
)
def test_pulses_are_one_exact_coupling_step(name: str, oracle: str) -> None:
    """The program with the pulses as answers, step by step: it rests at z, is given h, and rests at z + h(z)."""
    for first in (0, 4):
        weights = mm.theory.pulses(ALGORITHMS[name], first, oracle)
        if weights is not None:
            _assert_coupling(ALGORITHMS[name], oracle, first, weights)


def _assert_coupling(algorithm: Algorithm, oracle: str, first: int, weights: list[float]) -> None:
    z = np.array([0.7, -0.3])
    target = z + np.array([0.0, np.sin(3 * z[0])])
    after = first + len(weights)
    queries: list[tuple[int, np.ndarray]] = []

    def asking(name: str, k: int) -> Callable[..., np.ndarray]:
        pulse = weights[k - first] if name == oracle and first <= k < after else 0.0

        def answer(x: np.ndarray, step_size: float | None = None) -> np.ndarray:
            moved = pulse * np.array([0.0, np.sin(3 * x[0])])
            new = x if step_size is None else x + step_size * moved
            queries.append((k, new))
            return -moved if step_size is None else new

        return answer

    state = algorithm.start_alone(z)
    for k in range(after + 12):
        state = algorithm.step(state, *[asking(name, k) for name in algorithm.oracles], k)
        if k + 1 >= after:
            np.testing.assert_allclose(algorithm.read(state), target, rtol=0, atol=1e-9)
    for k, point in queries:
        if k < first or k >= after:
            np.testing.assert_allclose(point, z if k < first else target, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", mm.algorithms.ALGORITHMS)
def test_which_algorithms_have_pulses(name: str) -> None:
    """All but one that forgets its drift, and those that normalize a part of their state."""
    algorithm = ALGORITHMS[name]
    without = name == "input_injection" or any(map(is_map, algorithm.oracles))
    assert (mm.theory.pulses(name if "former" not in name else algorithm) is None) == without


def test_the_weights_of_known_methods() -> None:
    """Lemma 1: the coefficients of rho(z) / ((z - 1) sigma(1))."""
    known = {
        "gradient_descent(step_size=0.5)": [2],
        "heavy_ball(step_size=0.5, momentum=0.9)": [2, -1.8],
        "nesterov(momentum=0.5)": [1, -0.5],
        "adams_bashforth2": [1, 0],
        "optimistic_gradient": [1, 0],
        "leapfrog": [0.5, 0.5],
        "momentum_residual(momentum=0.9)": [10, -9],
        "extragradient": [1],
        "shared_admm": [2, -1, 0.5],
    }
    for name, weights in known.items():
        assert mm.theory.pulses(name) == pytest.approx(weights, abs=1e-12), name
    assert mm.theory.pulses("heavy_ball", step=7) == [1, -0.5]
    schedule = mm.algorithms.HeavyBall(momentum=lambda k: 1 / (k + 2))
    assert mm.theory.pulses(schedule, 3) == pytest.approx([1, -1 / 6])  # (1, -m_(k + 1))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="step is -1; expected 0, 1, 2"):
        mm.theory.pulses("heavy_ball", step=-1)
    with pytest.raises(ValueError, match="unknown oracle of MergeAndRun.*Did you mean 'gradient_"):
        mm.theory.pulses("merge_and_run", oracle="gradient")
    with pytest.raises(ValueError, match="Did you mean 'heavy_ball'"):
        mm.theory.pulses("heavy_bal")
