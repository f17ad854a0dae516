"""The lemma of facts 1.2 and the objective table of facts 1.3, by differentiation."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from minimand.theory.objective import activation, objective

NAMES = ["sigmoid", "tanh", "softplus", "softsign", "relu", "leaky_relu", "elu", "silu"]


def _positive_definite(rng: np.random.Generator, d: int, largest: float = 1.0) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return (q * np.linspace(0.2, largest, d)) @ q.T


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slope", [None, 0.3])
def test_the_potential_differentiates_to_the_activation(name: str, slope: float | None) -> None:
    a = activation(name, slope)
    u = np.array([-3.1, -1.2, -0.4, 0.3, 1.1, 2.7])
    h = 1e-5
    np.testing.assert_allclose((a.potential(u + h) - a.potential(u - h)) / (2 * h), a.act(u), atol=1e-8)
    slopes = (a.act(u + h) - a.act(u - h)) / (2 * h)
    assert (slopes >= a.low - 1e-6).all()
    assert (slopes <= a.high + 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_potentials_are_continuous_at_zero(name: str) -> None:
    a = activation(name)
    left, right = a.potential(np.array([-1e-9, 1e-9]))
    assert left == pytest.approx(right, abs=1e-8)


@given(name=st.sampled_from(NAMES), seed=st.integers(0, 50), d=st.integers(1, 5))
def test_the_layer_is_a_gradient_step(name: str, seed: int, d: int) -> None:
    """Lemma: in z = U x, one step of length 1 on f, mapped back, is act(W x)."""
    rng = np.random.default_rng(seed)
    f = objective(_positive_definite(rng, d), name)
    x = rng.normal(size=(3, d))
    z = x @ f.root
    back = (z - f.gradient(z)) @ np.linalg.inv(f.root)
    np.testing.assert_allclose(back, f.layer(x), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_value(name: str) -> None:
    rng = np.random.default_rng(1)
    f = objective(_positive_definite(rng, 4), name)
    x, h = rng.normal(size=4), 1e-6
    numeric = np.array([(f.value(x + h * e) - f.value(x - h * e)) / (2 * h) for e in np.eye(4)])
    np.testing.assert_allclose(numeric, f.root @ f.gradient(x @ f.root), atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_curvature_bounds_the_hessian(name: str) -> None:
    rng = np.random.default_rng(2)
    f = objective(_positive_definite(rng, 3, largest=1.4), name)
    low, high = f.curvature
    h = 1e-5
    for z in rng.normal(size=(20, 3)):
        hessian = np.array([(f.gradient(z + h * e) - f.gradient(z - h * e)) / (2 * h) for e in np.eye(3)])
        values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
        assert values[0] >= low - 1e-6
        assert values[-1] <= high + 1e-6


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "relu", "elu"])
def test_a_nondecreasing_activation_descends(name: str) -> None:
    rng = np.random.default_rng(3)
    f = objective(_positive_definite(rng, 6, largest=3.0), name)
    x = rng.normal(size=(10, 6))
    for _ in range(5):
        following = f.layer(x)
        assert (f.value(following) <= f.value(x) + 1e-9).all()
        x = following


@pytest.mark.parametrize(
    ("weight", "name", "message"),
    [
        (np.eye(2), "rellu", "Did you mean 'relu'"),
        (np.ones((2, 3)), "relu", "expected a square matrix"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "relu", "not symmetric positive definite"),
        (-np.eye(2), "relu", "not symmetric positive definite"),
    ],
)
def test_bad_input(weight: np.ndarray, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objective(weight, name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slope", [None, 0.3, -0.5, 2.0])
def test_bounds_of_slopes_hold_and_potentials_are_finite_far_out(name: str, slope: float | None) -> None:
    a = activation(name, slope)
    u = np.linspace(-12, 12, 40_001)
    slopes = np.diff(a.act(u)) / np.diff(u)  # each a slope somewhere in between
    assert a.low - 1e-10 <= slopes.min()
    assert slopes.max() <= a.high + 1e-10
    far = np.array([-800.0, -30.0, 30.0, 800.0])
    with np.errstate(over="raise", invalid="raise"):
        assert np.isfinite(a.potential(far)).all()
    h = 1e-3
    numeric = (a.potential(far + h) - a.potential(far - h)) / (2 * h)
    np.testing.assert_allclose(numeric, a.act(far), rtol=1e-6, atol=1e-6)


def test_the_bounds_of_silu_are_its_largest_slopes() -> None:
    u = np.linspace(2.3, 2.5, 2001)
    s = 1 / (1 + np.exp(-u))
    largest = (s * (1 + u * (1 - s))).max()
    assert largest <= activation("silu").high <= largest + 1e-9
    assert activation("silu").low == pytest.approx(1 - activation("silu").high, abs=1e-12)
