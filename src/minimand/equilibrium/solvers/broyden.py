"""Broyden's method with limited memory, of which only the steps are stored."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._support.checks import check_number
from ..memory import Memory
from ..solver import SOLVERS, Iteration, Solver, Step


@SOLVERS.register("broyden")
@dataclass(frozen=True, kw_only=True)
class Broyden(Solver):
    """Broyden's first method (Broyden, 1965) with limited memory, for each sample by itself; the first step is plain.

    With full steps s_j the inverse Jacobian is a product of factors I + s_{j+1} s_j^T / |s_j|^2 (Kelley, 1995): one
    vector a step is stored, where the usual form stores two.
    """

    memory: int = 30
    """The number of steps remembered; when there are so many, the method begins anew from where it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("Broyden.memory", self.memory, 1, math.inf, whole=True)

    def begin(self, start: Tensor) -> Iteration:
        return _Broyden(start, min(self.memory, self.max_steps))


class _Broyden:
    """The steps so far and their inner products (n, m, m); when the memory is full it begins anew at the same point.

    With v = r at first and v <- v + c_j s_{j+1}, c_j = s_j v / |s_j|^2, over all steps but the last, the next step is
    v / (1 - c_k). The numbers c solve a triangular system of the inner products, so that the steps are read twice.
    """

    def __init__(self, start: Tensor, size: int) -> None:
        self.point, self.steps = start, Memory(size)
        self.products = start.new_zeros(len(start), size, size, dtype=torch.float64)
        self.residual = start

    def advance(self, f: Callable[[Tensor], Tensor]) -> Step:
        if self.residual is not self.point:
            self.point = self.point + self._next_step()
        answer = f(self.point)
        self.residual = answer - self.point
        return Step(self.point, answer, self.residual)

    def _next_step(self) -> Tensor:
        k, r = self.steps.used, self.residual
        if k == self.steps.size:
            k = self.steps.used = 0
        if k == 0:
            step, beside = r, None
        else:
            products = self.products[:, :k, :k]
            onto = self.steps.products(r).double()
            system = torch.diag_embed(products.diagonal(dim1=1, dim2=2).clamp_min(_TINY))
            system[:, 1:, : k - 1] -= products[:, 1:, 1:].tril()
            c = torch.linalg.solve_triangular(system, onto.unsqueeze(2), upper=False).squeeze(2)
            weights = torch.cat([torch.zeros_like(c[:, :1]), c[:, :-1]], 1)
            left = 1 - c[:, -1:]
            left = torch.where(left.abs() < _LEAST, _LEAST, left)
            step = (r + self.steps.combine(weights)) / left.to(r.dtype)
            beside = (onto + torch.bmm(products, weights.unsqueeze(2)).squeeze(2)) / left
        self.steps.write(k, step)
        self.products[:, k, k] = step.square().sum(1)
        if beside is not None:
            self.products[:, k, :k] = self.products[:, :k, k] = beside
        return step

    def keep(self, rows: Tensor) -> None:
        self.steps.keep(rows)
        self.products = self.products[rows]
        self.point, self.residual = self.point[rows], self.residual[rows]


_TINY = torch.finfo(torch.float64).tiny
_LEAST = 1e-3  # the least 1 - c; at 0 Broyden's matrix is singular
