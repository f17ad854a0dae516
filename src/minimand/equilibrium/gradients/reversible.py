"""The gradient of a fixed number of coupled steps, which are run back: constant memory."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from ..._support.torch.internals import gradient_hooks_off
from ..._support.torch.places import places_in
from ...algorithms import leaves, rebuild
from ..block.equations import BlockEquations
from ..gradient import GRADIENTS, Attached, Gradient, no_second_derivative, zeros_for_none
from ..solution import Solution
from ..solver import Solver
from ..solvers.coupled import Coupled
from .implicit import Implicit

LARGEST_ROUND_OFF = 1e-2
"""The relative error of a state run back beyond which gradients are refused."""


@GRADIENTS.register("reversible")
@dataclass(frozen=True, kw_only=True)
class Reversible(Gradient):
    """The gradient of the steps of `Coupled`, all of them, run back one by one (McCallum et al., 2025).

    The memory is that of one call of the block. It is the gradient of those steps, whether they converged or not.
    """

    has_jacobian = False

    def usual_solver(self) -> Solver:
        return Coupled()

    def check(self, solver: Solver) -> None:
        if not isinstance(solver, Coupled):
            raise MinimandError(
                f"solver is {solver.title}, but gradient='reversible' needs steps that can be undone from their "
                "results alone, as those of its own solver; expected mm.Coupled(max_steps=12, relaxation=0.5), or for "
                "this solver gradient='implicit', whose memory is that of one call too."
            )

    @property
    def of_one_call(self) -> Gradient:
        return Implicit().of_one_call

    def solve(
        self, equations: BlockEquations, start: Any, solver: Solver, tolerance: float, at_point: bool
    ) -> Solution:
        assert isinstance(solver, Coupled)
        with torch.no_grad():
            rows = equations.packing.pack(start)
            return _ran(equations, solver, rows, tolerance)[1]

    def forward(
        self, equations: BlockEquations, start: Any, solver: Solver, tolerance: float
    ) -> tuple[Attached, Solution]:
        assert isinstance(solver, Coupled)
        _check_round_off(solver, solver.round_off(equations.packing.dtype), "is predicted to be off by at least")
        run = _Run(equations, solver, tolerance)
        rows = _Back.apply(run, equations.packing.pack(start), *run.others)
        assert run.solution is not None
        output = equations.packing.unpack(rows)
        return Attached(output, None, None), run.solution


class _Run:
    """A run of coupled steps, which its backward pass undoes."""

    solution: Solution | None = None

    def __init__(self, equations: BlockEquations, solver: Coupled, tolerance: float) -> None:
        self.equations, self.solver, self.tolerance = equations, solver, tolerance
        places = places_in(equations.block.modules())
        inputs = [leaf for value in equations.all_inputs for leaf in leaves(value)]
        shared = [value for value in equations.shared.values() if isinstance(value, Tensor)]
        self.others = [*{id(x): x for x in (*(p for _, _, p in places), *inputs, *shared) if x.requires_grad}.values()]
        """The parameters and inputs that get gradients."""
        ends = {id(x): x if x.is_leaf else x.detach().requires_grad_() for x in (*inputs, *shared) if x.requires_grad}
        ends |= {id(p): end for (_, _, p), (_, _, end) in zip(places, equations.held.places, strict=True)}
        self.ends = [ends[id(x)] for x in self.others]
        """Leaves in their place, at which gradients end that are taken within the backward pass."""
        self.back = copy.copy(equations)
        self.back.inputs = tuple(
            rebuild(value, [ends.get(id(leaf), leaf) for leaf in leaves(value)]) for value in equations.all_inputs
        )
        self.back.shared = {name: ends.get(id(value), value) for name, value in equations.shared.items()}


def _ran(
    equations: BlockEquations, solver: Coupled, start: Tensor, tolerance: float
) -> tuple[Tensor, Solution, Tensor]:
    """The last y, the solution, whose value is the last z, and that z as rows."""
    y, z, answer = solver.forth(equations, start, start)
    first = (y - start).norm(dim=1) / solver.relaxation
    for _ in range(1, solver.max_steps):
        y, z, answer = solver.forth(equations, y, z)
    last = (answer - y).norm(dim=1)
    residual = last / answer.norm(dim=1).clamp_min(torch.finfo(z.dtype).tiny)
    converged = residual <= tolerance
    steps = torch.full((len(z),), solver.max_steps, device=z.device)
    diverged = ~(last < first) & ~converged
    return y, Solution(equations.packing.unpack(z), steps, residual, converged, diverged), z


class _Back(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: _Run, start: Tensor, *others: Tensor) -> Tensor:
        y, run.solution, z = _ran(run.equations, run.solver, start, run.tolerance)
        ctx.run = run
        ctx.save_for_backward(start, y, z, *others)
        return z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        no_second_derivative("reversible")
        run: _Run = ctx.run
        start, y, z, *_ = ctx.saved_tensors  # read once, as a checkpoint gives saved tensors only once
        end = z
        r = run.solver.relaxation
        sums: list[Tensor | None] = [None] * len(run.others)

        def asked(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
            """The block's answer, and the gradient of its product with weights with respect to its state."""
            point = rows.detach().requires_grad_()
            with torch.enable_grad(), run.back.held.again():
                answer = run.back(point)
            inputs = [point, *run.ends]
            with gradient_hooks_off(inputs):  # they see the sum of all gradients, later
                products = torch.autograd.grad(answer, inputs, weights, allow_unused=True)
            for i, product in enumerate(products[1:]):
                if product is not None:
                    total = sums[i]
                    sums[i] = product if total is None else total + product
            return answer.detach(), zeros_for_none(products[:1], [point])[0]

        to_z, to_y = gradients[0], torch.zeros_like(gradients[0])
        for _ in range(run.solver.max_steps):
            answer, product = asked(y, r * to_z)
            z, to_z, to_y = run.solver.back(answer, z), (1 - r) * to_z, to_y + product
            answer, product = asked(z, r * to_y)
            y, to_y, to_z = run.solver.back(answer, y), (1 - r) * to_y, to_z + product
        scale = max(float(start.norm()), float(end.norm()))
        error = max(float((y - start).norm()), float((z - start).norm())) / max(scale, 1e-30)
        _check_round_off(run.solver, error, "came back off by")
        return None, to_z + to_y, *sums


def _check_round_off(solver: Coupled, error: float, happened: str) -> None:
    if not error <= LARGEST_ROUND_OFF:
        raise MinimandError(
            f"gradient='reversible' with {solver.max_steps} steps of relaxation {solver.relaxation:g}: the first state "
            f"{happened} {error:.1g} of its size, more than {LARGEST_ROUND_OFF:g}; expected fewer steps, a smaller "
            "relaxation, float64, or gradient='implicit'."
        )
