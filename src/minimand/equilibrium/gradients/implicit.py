"""The gradient of the solution itself, by the implicit function theorem."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...algorithms import leaves, rebuild
from ..block.equations import BlockEquations
from ..gradient import GRADIENTS, Attached, Gradient, asked_with_graph, no_second_derivative, zeros_for_none
from ..solver import Solver
from ..solving import solve


@GRADIENTS.register("implicit")
@dataclass(frozen=True, kw_only=True)
class Implicit(Gradient):
    """The exact gradient: g = J^T g + dl/dz is solved by the equilibrium's solver, then goes through the block once.

    Memory is that of one call of the block, whatever the steps.
    """

    def attach(self, equations: BlockEquations, state: Any, solver: Solver, tolerance: float) -> Attached:
        attached = asked_with_graph(equations, state)
        answers = leaves(attached.answer)
        outputs = _LinearSolve.apply(_Link(attached, solver, equations), *answers)
        attached.output = rebuild(attached.answer, list(outputs))
        return attached


@dataclass
class _Link:
    """What the backward pass needs of the forward one: the graph of one call of the block."""

    attached: Attached
    solver: Solver
    equations: BlockEquations


class _LinearSolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, link: _Link, *answers: Tensor) -> tuple[Tensor, ...]:
        ctx.link = link
        return tuple(answer.view_as(answer) for answer in answers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        no_second_derivative("implicit")
        link: _Link = ctx.link
        points, answers = leaves(link.attached.point), leaves(link.attached.answer)

        def f(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            products = torch.autograd.grad(answers, points, state, retain_graph=True, allow_unused=True)
            return tuple(p + g for p, g in zip(zeros_for_none(products, points), gradients, strict=True))

        solution = solve(f, gradients, link.solver, link.equations.dtype)
        link.equations.note_gradient(solution)
        return None, *solution.value
