"""Anderson's acceleration: the next iterate mixes the last answers so that their residuals cancel."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._support.checks import check_number
from ..memory import Memory
from ..solver import SOLVERS, Iteration, Solver, Step


@SOLVERS.register("anderson")
@dataclass(frozen=True, kw_only=True)
class Anderson(Solver):
    """Anderson's acceleration of the fixed-point iteration (Anderson, 1965), for each sample by itself.

    The next iterate is sum_i a_i (z_i + r (f(z_i) - z_i)) over the last iterates, where the weights a sum to 1 and make
    the residuals cancel best. On linear equations it is GMRES, restarted by sliding.
    """

    memory: int = 6
    """The number of iterates that are mixed, at least 2."""
    relaxation: float = 1.0
    """The share r of the answers in the mixture, the iterates having the rest."""
    ridge: float = 1e-8
    """What is added to the diagonal of the residuals' matrix of cosines, to bound the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("Anderson.memory", self.memory, 2, math.inf, whole=True)
        check_number("Anderson.relaxation", self.relaxation, 1e-3, 1)
        check_number("Anderson.ridge", self.ridge, 0, 1)

    def begin(self, start: Tensor) -> Iteration:
        return _Mixing(start, self)


class _Mixing:
    """The last residuals and what is mixed of each, in slots that are used in turn, with their products (n, m, m)."""

    def __init__(self, start: Tensor, solver: Anderson) -> None:
        self.start, self.solver, self.count = start, solver, 0
        size = min(solver.memory, solver.max_steps)
        self.residuals, self.mixed = Memory(size), Memory(size)
        self.products = start.new_zeros(len(start), size, size, dtype=torch.float64)

    def advance(self, f: Callable[[Tensor], Tensor]) -> Step:
        point = self._mixture() if self.count else self.start
        answer = f(point)
        residual = answer - point
        slot = self.count % self.residuals.size
        relaxation = self.solver.relaxation
        self.residuals.write(slot, residual)
        self.mixed.write(slot, answer if relaxation == 1 else point + relaxation * residual)
        self.count += 1
        products = self.residuals.products(residual).double()
        self.products[:, slot, : products.shape[1]] = products
        self.products[:, : products.shape[1], slot] = products
        return Step(point, answer, residual)

    def _mixture(self) -> Tensor:
        used = self.residuals.used
        products = self.products[:, :used, :used]
        scale = products.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
        cosines = products * scale.unsqueeze(1) * scale.unsqueeze(2)
        cosines.diagonal(dim1=1, dim2=2).add_(self.solver.ridge)
        factor = torch.linalg.cholesky_ex(cosines)[0]
        weights = scale * torch.cholesky_solve(scale.unsqueeze(2), factor).squeeze(2)
        return self.mixed.combine(weights / weights.sum(1, keepdim=True))

    def keep(self, rows: Tensor) -> None:
        self.residuals.keep(rows)
        self.mixed.keep(rows)
        self.start, self.products = self.start[:0], self.products[rows]
