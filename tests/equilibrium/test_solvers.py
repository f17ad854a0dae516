"""Solvers of z = f(z): every one of the registry, on equations whose solutions are known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from minimand._support.errors import MinimandError
from minimand.algorithms import HeavyBall
from minimand.equilibrium import SOLVERS, Anderson, Broyden, FixedPoint, Solver, as_solver, solve

NAMES = [*SOLVERS]


def equations(
    radius: float, samples: int = 6, size: int = 12, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """The matrix, of a spectral norm, and the right sides of z = W z + b; sample i is i times as hard."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(size, size, generator=generator, dtype=dtype)
    right = torch.randn(samples, size, generator=generator, dtype=dtype)
    return matrix * radius / torch.linalg.matrix_norm(matrix, 2), right


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_a_solver_solves_to_its_tolerance(name: str, tolerance: float) -> None:
    matrix, right = equations(0.7)
    solution = solve(
        lambda z: z @ matrix.T + right, torch.zeros_like(right), SOLVERS[name](tolerance=tolerance, max_steps=100)
    )
    exact = torch.linalg.solve(torch.eye(12) - matrix, right.T).T
    assert solution.result == "converged"
    error = (solution.value - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(error.max()) < tolerance / 0.3  # of residuals by 1 - |W|
    assert float(solution.residual.max()) <= tolerance


@pytest.mark.parametrize("name", NAMES)
def test_samples_solved_together_are_those_solved_alone(name: str) -> None:
    matrix, right = equations(0.8)
    strength = torch.linspace(0.1, 1, len(right), dtype=right.dtype).unsqueeze(1)

    def f(z: Tensor, rows: slice) -> Tensor:
        return strength[rows] * torch.tanh(z @ matrix.T) + right[rows]

    together = solve(lambda z: f(z, slice(None)), torch.zeros_like(right), SOLVERS[name](tolerance=1e-6, max_steps=100))
    assert len(set(together.steps.tolist())) > 1
    for i in range(len(right)):
        alone = solve(
            lambda z, i=i: f(z, slice(i, i + 1)),
            torch.zeros_like(right[:1]),
            SOLVERS[name](tolerance=1e-6, max_steps=100),
        )
        assert alone.steps.tolist() == [int(together.steps[i])]
        torch.testing.assert_close(alone.value[0], together.value[i], rtol=1e-9, atol=1e-12)


def test_accelerated_solvers_need_fewer_steps() -> None:
    matrix, right = equations(0.98)
    matrix = (matrix + matrix.T) / 2
    matrix = matrix * 0.98 / torch.linalg.matrix_norm(matrix, 2)
    steps = {}
    for solver in (FixedPoint, Anderson, Broyden):
        solution = solve(lambda z: z @ matrix.T + right, 0 * right, solver(tolerance=1e-6, max_steps=1000))
        steps[solver] = int(solution.steps.max())
    assert steps[Anderson] < steps[FixedPoint] / 4
    assert steps[Broyden] < steps[FixedPoint] / 4


@pytest.mark.parametrize("name", NAMES)
def test_what_runs_off_is_told_from_what_stops(name: str) -> None:
    right = torch.tensor([[1.0], [-0.5]], dtype=torch.float64)
    solution = solve(lambda z: z + right + z**2, torch.zeros_like(right), SOLVERS[name](max_steps=2, tolerance=1e-9))
    assert solution.diverged.tolist() == [True, False]  # 1 + z^2 has no zero, and -0.5 + z^2 has two
    assert solution.result == "diverged"
    assert solution.counts == {"converged": 0, "stopped": 1, "diverged": 1}
    assert str(solution).startswith("1 stopped, 1 diverged; at most 2 steps")


def test_broyden_is_the_textbook_method() -> None:
    """Against the inverse Jacobian as a dense matrix."""
    matrix, right = equations(0.9, samples=1)
    solution = solve(
        lambda z: torch.tanh(z @ matrix.T) + right, torch.zeros_like(right), Broyden(max_steps=9, tolerance=0.0 + 1e-15)
    )
    z, inverse = torch.zeros(12, dtype=torch.float64), torch.eye(12, dtype=torch.float64)
    residual = torch.tanh(matrix @ z) + right[0] - z
    for _ in range(8):
        step = inverse @ residual
        z = z + step
        before, residual = residual, torch.tanh(matrix @ z) + right[0] - z
        change = before - residual
        inverse += torch.outer(step - inverse @ change, step @ inverse) / (step @ inverse @ change)
    torch.testing.assert_close(solution.value[0], torch.tanh(matrix @ z) + right[0], rtol=1e-10, atol=1e-12)


def test_a_solver_is_named_as_one_likes() -> None:
    assert as_solver("anderson(memory=3)") == Anderson(memory=3)
    assert as_solver(Broyden) == Broyden()
    assert as_solver(HeavyBall(momentum=0.2)).algorithm == as_solver("heavy_ball(momentum=0.2)").algorithm  # pyright: ignore
    with pytest.raises(MinimandError, match="LinearizedADMM.*asks gradient_f, gradient_g"):
        as_solver("linearized_admm")
    with pytest.raises(
        MinimandError, match="unknown solver or algorithm .* Did you mean 'heavy_ball'. Known: .*anderson"
    ):
        as_solver("heavy_bal")
    with pytest.raises(TypeError, match="expected mm.Anderson"):
        as_solver(3)


@pytest.mark.parametrize(
    ("solver", "dtype", "message"),
    [
        (
            lambda: Anderson(tolerance=1e-8),
            torch.float32,
            r"Anderson.tolerance is 1e-08.*float32.*at least 5e-07, or None, .* model.double",
        ),
        (
            lambda: Anderson(tolerance=1e-3),
            torch.bfloat16,
            r"bfloat16.*at least 0.03, or None.*or float32: model.float",
        ),
        (lambda: FixedPoint(tolerance=1e-3), torch.bfloat16, r"bfloat16.*at least 0.03"),
        (lambda: Broyden(tolerance=1e-17), torch.float64, r"at least 9e-16, or None, which goes by the precision\."),
        (lambda: Broyden(max_steps=0), torch.float32, "Broyden.max_steps is 0"),
        (lambda: Anderson(memory=1), torch.float32, "Anderson.memory is 1"),
        (lambda: FixedPoint(relaxation=0.0), torch.float32, "FixedPoint.relaxation is 0.0"),
    ],
)
def test_settings_that_cannot_work_are_named(solver: Callable[[], Solver], dtype: torch.dtype, message: str) -> None:
    with pytest.raises(MinimandError, match=message):
        solve(lambda z: z, torch.zeros(2, 3, dtype=dtype), solver())
