"""A solver of equilibria that finds its step lengths by itself."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from minimand.equilibrium import SOLVERS, Solver
from minimand.equilibrium.solver import Iteration, Step


@SOLVERS.register("secant")
@dataclass(frozen=True, kw_only=True)
class Secant(Solver):
    """z <- z + a (f(z) - z), with the length a that the last two residuals suggest (Barzilai & Borwein, 1988)."""

    first: float = 1.0
    """The length of the first step."""

    def begin(self, start: Tensor) -> Iteration:
        return _Secant(start, self.first)


class _Secant:
    def __init__(self, start: Tensor, first: float) -> None:
        self.point, self.lengths = start, torch.full_like(start[:, :1], first)
        self.change = self.residual = torch.zeros_like(start)

    def advance(self, f: Callable[[Tensor], Tensor]) -> Step:
        point, answer = self.point, f(self.point)
        residual = answer - point
        difference = residual - self.residual
        if bool(self.change.any()):
            least = torch.finfo(point.dtype).tiny
            squares = difference.square().sum(1, keepdim=True).clamp_min(least)
            self.lengths = -(self.change * difference).sum(1, keepdim=True) / squares
        self.change, self.residual = self.lengths * residual, residual
        self.point = point + self.change
        return Step(point, answer, residual)

    def keep(self, rows: Tensor) -> None:
        self.point, self.lengths = self.point[rows], self.lengths[rows]
        self.change, self.residual = self.change[rows], self.residual[rows]
