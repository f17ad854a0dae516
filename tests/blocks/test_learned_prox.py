"""Gradients of learned convex functions, and the proxes that are such gradients."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

import minimand as mm
from minimand.blocks import LearnedProx
from minimand.layers import ConvexGradient

ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Identity]


def _inner(kind: str, scale: float) -> nn.Linear | nn.Conv2d:
    inner = nn.Linear(6, 9) if kind == "linear" else nn.Conv2d(3, 5, 3, padding="same" if kind == "same" else 1)
    with torch.no_grad():
        inner.weight *= scale / 0.1
    return inner.double()


def _points(kind: str) -> Tensor:
    return torch.randn(*((8, 6) if kind == "linear" else (8, 3, 5, 6)), dtype=torch.double)


_cases = given(
    kind=st.sampled_from(["linear", "convolution", "same"]),
    activation=st.sampled_from(ACTIVATIONS),
    scale=st.floats(0.01, 3),
    seed=st.integers(0, 2**31),
)


@settings(max_examples=12, deadline=None)
@_cases
def test_a_learned_prox_is_a_prox(kind: str, activation: type[nn.Module], scale: float, seed: int) -> None:
    """Firmly nonexpansive, |Pu - Pv|^2 <= <Pu - Pv, u - v>, with a symmetric Jacobian: what Moreau's theorem asks."""
    torch.manual_seed(seed)
    prox = LearnedProx(_inner(kind, scale), activation())
    u, v = _points(kind), _points(kind)
    moved, apart = (prox(u, 1.0) - prox(v, 1.0)).flatten(1), (u - v).flatten(1)
    assert (moved.square().sum(1) <= (moved * apart).sum(1) + 1e-10).all()
    jacobian = torch.autograd.functional.jacobian(lambda x: prox(x[None], 1.0)[0], u[0]).reshape(u[0].numel(), -1)
    torch.testing.assert_close(jacobian, jacobian.T, atol=1e-12, rtol=0)


@settings(max_examples=8, deadline=None)
@_cases
def test_the_block_is_minus_the_gradient_of_its_convex_function(
    kind: str, activation: type[nn.Module], scale: float, seed: int
) -> None:
    """Monotone, <T u - T v, u - v> <= 0, and |W|^2-Lipschitz, by the bound on |W|."""
    torch.manual_seed(seed)
    block = ConvexGradient(_inner(kind, scale), activation())
    u, v = _points(kind), _points(kind)
    moved, apart = (block(u) - block(v)).flatten(1), (u - v).flatten(1)
    assert ((moved * apart).sum(1) <= 1e-10).all()
    assert (moved.norm(dim=1) <= block.norm_bound() ** 2 * apart.norm(dim=1) * (1 + 1e-9)).all()


def test_the_block_has_the_potential_of_its_text() -> None:
    block = ConvexGradient(_inner("linear", 0.5), nn.Softplus())
    x = _points("linear").requires_grad_()
    # The integral of softplus, by quadrature from -20.
    nodes = torch.linspace(0, 1, 20_001, dtype=torch.double)
    h = block.inner(x)
    grid = -20 + (h[..., None] + 20) * nodes
    potential = torch.trapezoid(nn.functional.softplus(grid), nodes) * (h + 20)
    (gradient,) = torch.autograd.grad(potential.sum(), x)
    torch.testing.assert_close(block(x), -gradient, atol=1e-6, rtol=1e-6)


def test_the_bound_is_that_of_the_map() -> None:
    """Of a convolution of images as a matrix, by its columns."""
    block = ConvexGradient(nn.Conv2d(2, 3, 3, padding=1).double())
    images = torch.eye(2 * 5 * 5, dtype=torch.double).reshape(-1, 2, 5, 5)
    bias = block.inner(torch.zeros_like(images[:1]))
    matrix = (block.inner(images) - bias).flatten(1)
    norm = torch.linalg.matrix_norm(matrix, 2)
    assert norm <= block.norm_bound() <= 9 * norm
    assert 0.9 * norm**2 <= block.curvature() <= 2 * norm**2
    assert block.inner.bias is not None  # which the measuring leaves alone


def test_a_network_with_learned_proxes_is_explicit_and_trains() -> None:
    torch.manual_seed(0)
    blocks = [{"gradient": mm.blocks.two_layer(6), "prox": LearnedProx(nn.Linear(6, 6))} for _ in range(3)]
    stage = mm.unroll("proximal_gradient", blocks)
    x = torch.randn(32, 6)
    optimizer = torch.optim.Adam(stage.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = (stage(x) - x.flip(1)).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("inner", "activation", "message"),
    [
        (nn.Linear(3, 3), nn.GELU(), r"activation is GELU\(.*\); expected slopes within \[0, 1\]: Identity, ReLU"),
        (nn.Conv2d(3, 3, 3, stride=2), None, "expected stride 1 and padding with zeros"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"), None, "expected stride 1 and padding with zeros"),
        (nn.ReLU(), None, r"inner is ReLU\(\); expected an nn.Linear or an nn.Conv2d"),
    ],
)
def test_what_is_no_gradient_of_a_convex_function(inner: nn.Module, activation: nn.Module | None, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        LearnedProx(inner, activation)  # pyright: ignore[reportArgumentType]
