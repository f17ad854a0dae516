"""Known oracles, and the networks that algorithm unrolling makes of them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn

import minimand as mm
from minimand.blocks.proximal import OnUnknown, SoftThreshold, least_squares


def _problem(rows: int = 12, columns: int = 20, samples: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(rows, columns, dtype=torch.double, generator=generator)
    matrix = matrix / torch.linalg.matrix_norm(matrix, 2)  # so that the unit step size is 1/L
    u = torch.randn(samples, columns, dtype=torch.double, generator=generator)
    u = u * (torch.rand(samples, columns, generator=generator) < 0.2)
    return matrix, u, u @ matrix.T


def _start(b: torch.Tensor, columns: int) -> torch.Tensor:
    return torch.cat([b.new_zeros(len(b), columns), b], dim=1)


def test_least_squares_is_minus_the_gradient() -> None:
    matrix, _, b = _problem()
    u = torch.randn(1, 20, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad((u @ matrix.T - b).square().sum() / 2, u)
    step = least_squares(matrix)(torch.cat([u, b], dim=1))
    torch.testing.assert_close(step[:, :20], -gradient)
    assert not step[:, 20:].any()


def test_soft_thresholding_minimizes() -> None:
    """p = prox(v, s) against a fine grid of w |p| + (p - v)^2 / (2 s); the rest of the state is left alone."""
    v = torch.linspace(-2, 2, 9, dtype=torch.double)[None]
    p = SoftThreshold(8, 0.4).double()(v, 0.5)
    grid = torch.linspace(-3, 3, 60_001, dtype=torch.double)[:, None]
    best = grid[(0.4 * grid.abs() + (grid - v[:, :8]) ** 2 / (2 * 0.5)).argmin(dim=0), 0]
    torch.testing.assert_close(p[0, :8], best, atol=1e-4, rtol=0)
    assert p[0, 8] == v[0, 8]


def test_unrolled_ista_solves_the_lasso() -> None:
    matrix, _, b = _problem()
    weight = 0.01
    blocks = [{"gradient": least_squares(matrix), "prox": SoftThreshold(20, weight).double()} for _ in range(3000)]
    code = mm.unroll("proximal_gradient", blocks)(_start(b, 20))[0, :20]
    lasso = Lasso(alpha=weight / 12, fit_intercept=False, tol=1e-12, max_iter=200_000).fit(matrix.numpy(), b[0].numpy())
    np.testing.assert_allclose(code.detach().numpy(), lasso.coef_, atol=1e-4)


def test_learned_ista_recovers_better_in_as_many_layers() -> None:
    """LISTA (Gregor & LeCun, 2010): six layers, started as ISTA and trained to recover sparse vectors."""
    torch.manual_seed(0)
    matrix, u, b = _problem(samples=512)
    x, layers = _start(b, 20), 6

    def network(learned: bool) -> nn.Module:
        blocks = []
        for _ in range(layers):
            block = least_squares(matrix)
            blocks.append(
                {
                    "gradient": OnUnknown(block.module.requires_grad_(learned)),
                    "prox": SoftThreshold(20, 0.02, learned).double(),
                }
            )
        return mm.unroll("proximal_gradient", blocks)

    def error(stage: nn.Module) -> torch.Tensor:
        return (stage(x)[:, :20] - u).square().mean()

    ista, lista = network(False), network(True)
    assert not [p for p in ista.parameters() if p.requires_grad]
    assert error(ista).item() == pytest.approx(error(lista).item())
    optimizer = torch.optim.Adam(lista.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        error(lista).backward()
        optimizer.step()
    assert error(lista) < 0.3 * error(ista)


def test_thresholds_have_the_right_gradient() -> None:
    module = SoftThreshold(3, 0.4, learned=True).double()
    v = torch.tensor([[-1.3, 0.1, 2.0, 5.0]], dtype=torch.double, requires_grad=True)

    def run(v: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, {"weight": weight}, (v, 0.5))

    assert torch.autograd.gradcheck(run, (v, module.weight))


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="weight is -0.1; expected at least 0"):
        SoftThreshold(3, -0.1)
