"""The methods that ask a prox: what they minimize, how fast, and which of them are one network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Lasso

import minimand as mm
from minimand.algorithms import ALGORITHMS, is_map, is_proximal
from minimand.theory import rate

PROXIMAL = [name for name, cls in ALGORITHMS.items() if any(map(is_proximal, cls.oracles))]
_generator = np.random.default_rng(0)
MATRIX = _generator.standard_normal((12, 20))
MATRIX /= np.linalg.norm(MATRIX, 2)  # so that the step size 1 is 1/L
TARGET = _generator.standard_normal(12)
WEIGHT = 0.05


def _least_squares_prox(v: np.ndarray, s: float) -> np.ndarray:
    return np.linalg.solve(np.eye(20) + s * MATRIX.T @ MATRIX, v + s * MATRIX.T @ TARGET)


def _soft_threshold(v: np.ndarray, s: float) -> np.ndarray:
    return np.sign(v) * np.maximum(np.abs(v) - s * WEIGHT, 0)


SPLIT: dict[tuple[str, ...], list[Callable[..., np.ndarray]]] = {
    ("gradient", "prox"): [lambda x: MATRIX.T @ (MATRIX @ x - TARGET), _soft_threshold],
    ("prox_f", "prox_g"): [_least_squares_prox, _soft_threshold],
}


@pytest.mark.parametrize("name", [name for name in PROXIMAL if len(ALGORITHMS[name].oracles) == 2])
def test_every_splitting_solves_the_lasso(name: str) -> None:
    """min |A u - b|^2 / 2 + w |u|_1, against scikit-learn's coordinate descent."""
    algorithm = ALGORITHMS[name]()
    state: Any = algorithm.start(np.ones(20))
    for k in range(8000):
        state = algorithm.step(state, *SPLIT[algorithm.oracles], k)
    lasso = Lasso(alpha=WEIGHT / 12, fit_intercept=False, tol=1e-13, max_iter=500_000).fit(MATRIX, TARGET)
    np.testing.assert_allclose(algorithm.read(state), lasso.coef_, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "m"), [("proximal_point(momentum=0.6)", 0.6), ("accelerated_proximal_point(cap=0.6)", 0.6)]
)
def test_implicit_steps_as_multistep_methods(name: str, m: float) -> None:
    """rho = (z - 1)(z - m), sigma = z^2: order 1 after time is rescaled by 1 / (1 - m)."""
    certificate = mm.certify(name)
    assert certificate.multistep is not None
    assert [float(c) for c in certificate.multistep[0]] == pytest.approx([1, -(1 + m), m])
    assert [float(c) for c in certificate.multistep[1]] == [1, 0, 0]
    assert (certificate.order, float(certificate.speed or 0)) == (1, pytest.approx(1 / (1 - m)))


@pytest.mark.parametrize("name", ["proximal_gradient", "proximal_fista(cap=0.5)", "douglas_rachford", "admm"])
def test_a_prox_at_the_new_point_is_an_implicit_step(name: str) -> None:
    """On T1 = -a x and T2 = -b x over h = 1/n the network tends to exp(-(a + b)), at order 1, time rescaled."""
    a, b, errors = 0.7, 1.9, []
    speed = 0.5 if "fista" in name else 1.0
    for n in (200, 400):
        h = speed / n
        algorithm = mm.algorithms.as_algorithm(name).rebind(step_size=h)
        answers = [lambda x: a * x, lambda v, s: v / (1 + s * b)]
        if algorithm.oracles[0].startswith("prox"):
            answers[0] = lambda v, s: v / (1 + s * a)
        state: Any = algorithm.start(1.0)
        for k in range(n):
            state = algorithm.step(state, *answers, k)
        errors.append(abs(algorithm.read(state) - np.exp(-(a + b))))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)


def test_steps_that_no_gradient_method_could_take() -> None:
    """Methods of prox alone converge with any step size: 30/L here, where gradient descent diverges."""
    for name in ("proximal_point(step_size=30)", "proximal_point(step_size=30, momentum=0.5)"):
        algorithm = mm.algorithms.as_algorithm(name)
        state: Any = algorithm.start(np.ones(20))
        for k in range(2000):
            state = algorithm.step(state, _least_squares_prox, k)
        assert np.abs(MATRIX.T @ (MATRIX @ algorithm.read(state) - TARGET)).max() < 1e-8


@pytest.mark.parametrize("other", ["admm", "chambolle_pock"])
def test_splittings_with_two_proxes_are_one_network(other: str) -> None:
    """Eckstein & Bertsekas (1992); Chambolle & Pock (2011), section 4.2."""
    assert mm.equivalent(other, "douglas_rachford").relation == "identical"
    assert "douglas_rachford" in {type(m).name() for m in _known(other)}
    assert not mm.equivalent(other, "douglas_rachford(relaxation=0.9)")
    assert not mm.equivalent("chambolle_pock(momentum=0.9)", "douglas_rachford")


def test_what_the_methods_become_without_momentum_or_prox() -> None:
    assert mm.equivalent("proximal_fista(cap=0)", "proximal_gradient").relation == "identical"
    assert mm.equivalent("accelerated_proximal_point(cap=0)", "proximal_point").relation == "identical"
    x, gradient = np.arange(3.0), lambda x: 0.3 * x + 1
    for with_prox, without in (("proximal_fista", "fista"), ("proximal_gradient", "gradient_descent")):
        outputs = []
        for algorithm in (ALGORITHMS[with_prox](), ALGORITHMS[without]()):
            state: Any = algorithm.start(x)
            for k in range(9):
                oracles = [gradient, lambda v, s: v][: len(algorithm.oracles)]
                state = algorithm.step(state, *oracles, k)
            outputs.append(algorithm.read(state))
        np.testing.assert_allclose(*outputs)


def test_a_proximal_point_step_has_the_rate_of_its_text() -> None:
    """s = 1: 1 / (4 N) is tight (Taylor et al. 2017); Guler's is at most 2 / (N + 1)^2."""
    assert rate("proximal_point", steps=3).bound == pytest.approx(1 / 12, rel=1e-3)
    assert (rate("accelerated_proximal_point", steps=4).bound or 1) < 2 / 25


def test_proximal_fista_keeps_fista_s_bound_on_sums() -> None:
    assert (rate("proximal_fista", steps=3).bound or 1) <= 2 / 16


def _known(name: str) -> list[mm.Algorithm]:
    identification = mm.identify(name, depth=8)
    names = [match.second.partition("(")[0] for match in identification.matches]
    return [cls() for cls in ALGORITHMS.values() if cls.__name__ in names]


def test_every_prox_algorithm_is_known_by_its_oracles() -> None:
    assert len(PROXIMAL) == 7
    assert not any(is_map(oracle) for name in PROXIMAL for oracle in ALGORITHMS[name].oracles)
