"""What the study of sparse recovery compares: the algorithms, their weights, and the rate that is drawn in."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import minimand as mm
from minimand.blocks.proximal import SoftThreshold, least_squares
from minimand.studies.unrolling._recovery import (
    Problem,
    Recovery,
    Shrink,
    Towards,
    analytic_weights,
    curvatures,
    gaussian,
    of_patches,
    relative_errors,
)
from minimand.studies.unrolling.sparse_recovery import algorithm_for, predicted

_ROWS, _COLUMNS, _WEIGHT = 12, 20, 0.02


def _problem(snr: float | None = None) -> Problem:
    return gaussian(_ROWS, _COLUMNS, (4000, 64), snr, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("method", "algorithm"), [("ISTA", "proximal_gradient"), ("FISTA", "proximal_fista")])
def test_under_the_operator_binding_the_methods_are_those_with_a_prox(method: str, algorithm: str) -> None:
    """ISTA as gradient descent on z - T(z), T its own step, against the library's proximal methods on the lasso."""
    problem, layers = _problem(), 5
    largest, least = curvatures(problem.matrix, problem.matrix, torch.Generator().manual_seed(0))
    wired, step_size = algorithm_for(method, largest, least)
    weights = nn.Parameter(problem.matrix)
    pairs = [
        (Towards(problem.matrix, weights, step_size), Shrink(_COLUMNS, _WEIGHT * step_size)) for _ in range(layers)
    ]
    estimate = Recovery(problem, wired, pairs)(problem.test.inputs)
    blocks = [
        {"gradient": least_squares(problem.matrix), "prox": SoftThreshold(_COLUMNS, _WEIGHT)} for _ in range(layers)
    ]
    stage = mm.unroll(mm.algorithms.as_algorithm(algorithm).rebind(step_size=step_size), blocks)
    start = torch.cat([torch.zeros(64, _COLUMNS), problem.test.inputs], dim=1)
    torch.testing.assert_close(estimate, stage(start)[:, :_COLUMNS])


@pytest.mark.parametrize("method", ["ISTA", "FISTA", "heavy ball", "Nesterov", "Chebyshev", "ADMM"])
def test_every_method_comes_to_the_minimum(method: str) -> None:
    """Of the lasso: there a step of ISTA moves nothing."""
    problem = _problem()
    matrix, observed = problem.matrix, problem.test.inputs
    largest, _ = curvatures(matrix, matrix, torch.Generator().manual_seed(0))
    algorithm, step_size = algorithm_for(method, largest, 0.2 * largest)
    weights = nn.Parameter(matrix)
    ista = nn.Sequential(Towards(matrix, weights, 1 / largest), Shrink(_COLUMNS, _WEIGHT / largest))
    prox = torch.linalg.solve(matrix @ matrix.T + torch.eye(_ROWS), matrix)
    pair = (Towards(matrix, nn.Parameter(prox), step_size), Shrink(_COLUMNS, _WEIGHT))
    with torch.no_grad():
        state = algorithm.start(torch.cat([torch.zeros(64, _COLUMNS), observed], dim=1))
        for k in range(600):
            state = algorithm.step(state, *(pair if method == "ADMM" else (lambda z: z - ista(z),)), k)
        code = algorithm.read(state)
        torch.testing.assert_close(ista(code), code, atol=1e-3, rtol=0)


def test_analytic_weights_are_least_coherent() -> None:
    """w_j . a_j = 1, and moving a column within that makes |W^T A| larger."""
    matrix = _problem().matrix.double()
    weights = analytic_weights(matrix)
    torch.testing.assert_close((weights * matrix).sum(0), torch.ones(_COLUMNS, dtype=torch.double))
    least = (weights.T @ matrix).norm()
    for seed in range(10):
        move = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)).double()
        move -= (move * matrix).sum(0) * matrix  # columns of A have length 1
        assert ((weights + 0.01 * move).T @ matrix).norm() > least


def test_predicted_rates_are_those_of_the_methods() -> None:
    """(1 - mu/L)^2 a step for ISTA, 1/T_k^2 for Chebyshev, which is the least after every step."""
    ratio, layers = 0.05, 8
    rates = {m: predicted(algorithm_for(m, 1.0, ratio)[0], ratio, layers) for m in ("ISTA", "Nesterov", "Chebyshev")}
    np.testing.assert_allclose(rates["ISTA"], [20 * k * np.log10(1 - ratio) for k in range(1, layers + 1)])
    values = [np.polynomial.chebyshev.Chebyshev.basis(k)((1 + ratio) / (1 - ratio)) for k in range(1, layers + 1)]
    np.testing.assert_allclose(rates["Chebyshev"], -20 * np.log10(values), atol=1e-6)
    assert all(best <= rate + 1e-9 for best, rate in zip(rates["Chebyshev"], rates["Nesterov"], strict=True))


def test_samples_have_the_sparsity_and_noise_that_they_are_said_to() -> None:
    problem = _problem(snr=20)
    codes, observed = problem.train.targets, problem.train.inputs
    assert float((codes != 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    clean = codes @ problem.matrix.T
    some = clean.norm(dim=1) > 0
    ratio = clean[some].square().sum(1) / (observed - clean)[some].square().sum(1)
    assert float(10 * ratio.log10().mean()) == pytest.approx(20, abs=0.5)


def test_patches_are_seen_through_the_matrix() -> None:
    """A code that gives the patch by the dictionary gives the observation by the matrix."""
    generator = torch.Generator().manual_seed(0)
    images = mm.data.Arrays(torch.rand(200, 3, 16, 16, generator=generator), torch.zeros(200))
    problem = of_patches(mm.data.Data("images", images, images, (3, 16, 16)), (200, 50), generator)
    patches, observed = problem.test.targets, problem.test.inputs
    codes = patches @ torch.linalg.pinv(problem.dictionary).T
    torch.testing.assert_close(codes @ problem.dictionary.T, patches, atol=1e-3, rtol=0)
    torch.testing.assert_close(codes @ problem.matrix.T, observed, atol=1e-2, rtol=0)
    torch.testing.assert_close(problem.matrix.norm(dim=0), torch.ones(problem.matrix.shape[1]))


def test_errors_are_relative_and_of_each_layer() -> None:
    targets = torch.tensor([[3.0, 4.0]])
    layers: list[Tensor] = [torch.zeros(1, 2), targets / 2, targets]
    errors = relative_errors(layers, targets).tolist()
    assert errors == pytest.approx([1, 0.25, 0])
    assert all(a > b for a, b in pairwise(errors))
