"""The solver that applies the block again and again, plainly or damped."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..._support.checks import check_number
from ..solver import SOLVERS, Iteration, Solver, Step


@SOLVERS.register("fixed_point")
@dataclass(frozen=True, kw_only=True)
class FixedPoint(Solver):
    """The iteration z <- (1 - r) z + r f(z) with the relaxation r, 1 by default.

    It converges where f is a contraction, and for a small r wherever all eigenvalues of f's Jacobian have real parts
    below 1.
    """

    relaxation: float = 1.0
    """The share r of the block's answer in the next iterate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("FixedPoint.relaxation", self.relaxation, 1e-3, 1)

    def begin(self, start: Tensor) -> Iteration:
        return _Relaxed(start, self.relaxation)


class _Relaxed:
    def __init__(self, start: Tensor, relaxation: float) -> None:
        self.point, self.relaxation = start, relaxation

    def advance(self, f: Callable[[Tensor], Tensor]) -> Step:
        point = self.point
        answer = f(point)
        residual = answer - point
        self.point = answer if self.relaxation == 1 else point + self.relaxation * residual
        return Step(point, answer, residual)

    def keep(self, rows: Tensor) -> None:
        self.point = self.point[rows]
