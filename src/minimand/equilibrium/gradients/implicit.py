"""The gradient of the solution itself, by the implicit function theorem."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..._support.errors import MisuseError
from ..._support.torch.internals import is_batched, saved_tensors_are_hooked
from ...algorithms import leaves, rebuild
from ..block.equations import BlockEquations, rows_of
from ..gradient import GRADIENTS, Attached, Gradient, asked_with_graph, no_second_derivative, zeros_for_none
from ..packing import Packing
from ..solver import Solver
from ..solving import Equations, run


@GRADIENTS.register("implicit")
@dataclass(frozen=True, kw_only=True)
class Implicit(Gradient):
    """The exact gradient: g = J^T g + dl/dz is solved by the equilibrium's solver, then goes through the block once.

    Memory is that of one call of the block, whatever the steps.
    """

    is_apart: ClassVar[bool] = False
    """Whether the linear equation is solved in a graph of its own, of a further call of the block."""

    @property
    def of_one_call(self) -> Gradient:
        return _Apart()

    def attach(self, equations: BlockEquations, state: Any, solver: Solver, tolerance: float) -> Attached:
        attached = asked_with_graph(equations, state)
        # The node gets a copy without the output, which holds the node: the two would keep each other alive.
        outputs = _LinearSolve.apply(
            _Link(copy.copy(attached), solver, equations, self.is_apart), *leaves(attached.answer)
        )
        attached.output = rebuild(attached.answer, list(outputs))
        return attached


class _Apart(Implicit):
    """The exact gradient where hooks on the tensors of the block's call are to see it alone, and no products before."""

    is_apart = True


class _Link:
    """What the backward pass needs of the forward one: the graph of one call of the block.

    Where hooks take what a graph saves, as in a checkpoint, each product with a Jacobian would ask them for it, and the
    checkpoint would run again for each. Then, and where the linear equation is to be apart, only the point and the
    inputs are saved, and the block is asked once more.
    """

    def __init__(self, attached: Attached, solver: Solver, equations: BlockEquations, is_apart: bool) -> None:
        self.solver, self.equations, self.inputs = solver, equations, equations.all_inputs
        self.attached: Attached | None = attached
        self.saved: list[Tensor] = []
        self.point: Any = None
        if is_apart or saved_tensors_are_hooked():
            self.saved = [leaf.detach() for leaf in leaves((attached.point, self.inputs))]
            self.point, self.inputs = (rebuild(v, [None] * len(leaves(v))) for v in (attached.point, self.inputs))
            self.equations, self.attached = copy.copy(equations), None
            self.equations.all_inputs = self.equations.inputs = ()

    def graph(self, saved: Sequence[Tensor]) -> tuple[Attached, tuple[Any, ...]]:
        """A call of the block with its graph, and the inputs that it had."""
        if self.attached is not None:
            return self.attached, self.inputs
        point, inputs = rebuild((self.point, self.inputs), list(saved))
        with self.equations.held.again():
            return asked_with_graph(self.equations, point, inputs), inputs


class _Transposed(Equations):
    """The equations g = J^T g + dl/dz of the samples of a batch.

    A graph cannot lose rows: when half of its samples are done, the block is asked once more, of the others alone.
    """

    leaving = 1 / 2

    def __init__(self, link: _Link, saved: Sequence[Tensor], gradients: tuple[Tensor, ...]) -> None:
        self.block_equations, self.gradients = link.equations, gradients
        self.attached, self.inputs = link.graph(saved)
        self.packing = Packing(gradients)

    @property
    def may_leave(self) -> bool:
        return self.block_equations.may_leave

    def __call__(self, rows: Tensor) -> Tensor:
        points, answers = leaves(self.attached.point), leaves(self.attached.answer)
        vectors = self.packing.unpack(rows)
        products = torch.autograd.grad(answers, points, vectors, retain_graph=True, allow_unused=True)
        pairs = zip(zeros_for_none(products, points), self.gradients, strict=True)
        return self.packing.pack(tuple(p + g for p, g in pairs))

    def keep(self, rows: Tensor) -> None:
        self.inputs, self.gradients = rows_of(self.inputs, rows), rows_of(self.gradients, rows)
        with self.block_equations.held.again():
            state = rows_of(self.attached.point, rows)
            self.attached = asked_with_graph(self.block_equations, state, self.inputs)


class _LinearSolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, link: _Link, *answers: Tensor) -> tuple[Tensor, ...]:
        ctx.link = link
        ctx.save_for_backward(*link.saved)
        link.saved = []
        return tuple(answer.view_as(answer) for answer in answers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        no_second_derivative("implicit")
        if any(map(is_batched, gradients)):
            raise MisuseError(
                "several gradients at once (is_grads_batched=True, vectorize=True) were asked for of an equilibrium "
                "with gradient='implicit', whose steps depend on them; expected one after the other."
            )
        link: _Link = ctx.link
        transposed = _Transposed(link, ctx.saved_tensors, gradients)
        tolerance = link.solver.tolerance_in(link.equations.dtype)
        solution = run(transposed, gradients, transposed.packing, link.solver, tolerance)
        link.equations.note_gradient(solution)
        return None, *solution.value
