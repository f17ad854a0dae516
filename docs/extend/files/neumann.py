"""A gradient of equilibria between one call of the block and the exact one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minimand.algorithms import leaves, rebuild
from minimand.equilibrium import GRADIENTS, Gradient, Solver
from minimand.equilibrium.gradient import Attached, asked_with_graph, zeros_for_none


@GRADIENTS.register("neumann")
@dataclass(frozen=True, kw_only=True)
class Neumann(Gradient):
    """The first terms of the series g = v + J^T v + J^T J^T v + ..."""

    terms: int = 3
    """The number of terms; 1 is the gradient of one call."""

    def attach(self, equations: Any, state: Any, solver: Solver, tolerance: float) -> Attached:
        attached = asked_with_graph(equations, state)
        outputs = _Series.apply(attached, self.terms, *leaves(attached.answer))
        attached.output = rebuild(attached.answer, list(outputs))
        return attached


class _Series(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attached: Attached, terms: int, *answers: Tensor) -> tuple[Tensor, ...]:
        ctx.points, ctx.answers, ctx.terms = leaves(attached.point), leaves(attached.answer), terms
        return tuple(answer.view_as(answer) for answer in answers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        total = term = list(gradients)
        for _ in range(ctx.terms - 1):
            products = torch.autograd.grad(ctx.answers, ctx.points, term, retain_graph=True, allow_unused=True)
            term = zeros_for_none(products, ctx.points)
            total = [a + b for a, b in zip(total, term, strict=True)]
        return None, None, *total
