"""A layer whose output is the solution of z = block(z, x)."""

import inspect
import math
import warnings
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .._support.checks import check_number
from .._support.errors import MinimandError, MisuseError, WrongTypeError
from .._support.torch.internals import is_transformed, uncompiled, uncompiled_call
from ..algorithms import Algorithm, leaves, rebuild
from .block.equations import BlockEquations, check_inputs
from .block.held import refresh
from .block.injected import Injected
from .block.spectrum import jacobian_norm, radius_at
from .block.wellposed import why_unique
from .choice import as_solver
from .gradient import Attached, Gradient, as_gradient
from .packing import Packing
from .solution import Solution
from .solver import Solver
from .tally import Tally


class Equilibrium(nn.Module):
    """One block run to its fixed point: the output is the z with z = block(z, x).

    Each sample is solved to the solver's tolerance, and leaves the batch when it is. One that is not goes on from the
    best of its iterates, and is counted: `tally`. Dropout masks and running statistics are the same in all calls of a
    solve. The first call in training and in evaluation mode asks the block a few times more, to see whether it is a
    function.

    Args:
        block: a module of (z, x), or one of z alone, to whose answer x is added.
        solver: `mm.Anderson()`, `mm.Broyden()`, `mm.FixedPoint()`, an algorithm of this library, or a name of one such
            as "anderson(max_steps=30)"; by default Anderson's, and with gradient="reversible" `mm.Coupled()`.
        gradient: "implicit", the exact one, by a linear solve of the same solver; "reversible", of a fixed number of
            steps which are run back; "phantom", of a few damped steps from the solution; "jacobian_free", of one call.
        jacobian_weight: the weight c of c |v^T J|^2 / numel(z), v ~ N(0, I), J the block's Jacobian at the solution:
            after a call in training it is `penalty`, which `mm.fit` adds to the loss.

    Raises:
        MinimandError: a block that changes the state's shape, draws random numbers outside torch's generators, or
            normalizes by the batch without running statistics; a tolerance that the precision does not reach.
    """

    penalty: Tensor | None = None
    """The regularization of the last call in training, None without one."""

    references: ClassVar[tuple[str, ...]] = ("bai2019deq",)

    def __init__(
        self,
        block: nn.Module,
        solver: Solver | Algorithm | type[Solver | Algorithm] | str | None = None,
        gradient: Gradient | str = "implicit",
        jacobian_weight: float = 0.0,
    ) -> None:
        super().__init__()
        _check_module("block", block)
        self.block = block if _takes_two(block) else Injected(block)
        self.gradient = as_gradient(gradient)
        self.solver = self.gradient.usual_solver() if solver is None else as_solver(solver)
        self.gradient.check(self.solver)
        check_number("jacobian_weight", jacobian_weight, 0, float("inf"))
        if jacobian_weight and not self.gradient.has_jacobian:
            raise MinimandError(
                f"jacobian_weight is {jacobian_weight}, but gradient={gradient!r} keeps no graph of a call; expected "
                "0, or gradient='implicit'."
            )
        self.jacobian_weight = jacobian_weight
        self.tally = Tally()
        self._samples_apart: dict[bool, bool] = {}
        self._has_warned = False

    @classmethod
    def from_function(
        cls,
        f: nn.Module,
        solver: Solver | Algorithm | type[Solver | Algorithm] | str | None = None,
        gradient: Gradient | str = "implicit",
        jacobian_weight: float = 0.0,
    ) -> Self:
        """The equilibrium of z = f(z, *inputs), with a module f called as it is, its inputs as many as a call gives."""
        _check_module("f", f)
        layer = cls(Injected(f), solver, gradient, jacobian_weight)
        layer.block = f
        return layer

    def forward(self, *inputs: Any, start: Any = None, **shared: Any) -> Any:
        """The solution, with a gradient to the block's parameters and to the inputs.

        Args:
            inputs: tensors (N, ...) with a row for each sample, or tuples of them; the block gets them after z.
            start: the state to solve from, a tensor (N, ...) or a tuple; by default zeros like the first input.
            shared: what the block gets by name, the same for all samples.

        Inside of a compiled model the solve runs uncompiled: compile the block itself.
        """
        return uncompiled_call(self._forward, inputs, start, shared)

    def _forward(self, inputs: tuple[Any, ...], start: Any, shared: dict[str, Any]) -> Any:
        if self.block.training:
            refresh(self.block)
        equations, start, tolerance = self._equations(inputs, start, shared)
        if not (torch.is_grad_enabled() and self._needs_gradient(inputs, (start,), shared)):
            solution = self._solved(equations, start, tolerance)
            self._after(equations, start, solution, None)
            return solution.value
        attached, solution = self.gradient.forward(equations, start, self.solver, tolerance)
        self._after(equations, start, solution, attached)
        return attached.output

    @torch.no_grad()
    def solve(self, *inputs: Any, start: Any = None, **shared: Any) -> Solution:
        """The solution of each sample, its steps, its residual, and whether it converged, without a gradient.

        It leaves the block as it is, in training too.
        """
        equations, start, tolerance = self._equations(inputs, start, shared)
        return self._solved(equations, start, tolerance)

    def spectral_radius(self, *inputs: Any, start: Any = None, iterations: int = 30, **shared: Any) -> float:
        """The largest spectral radius of the block's Jacobian at the samples' solutions, by power iteration.

        Below 1 the solution is unique near there, and the plain fixed-point iteration reaches it.
        """
        equations, start, tolerance = self._equations(inputs, start, shared)
        value = self._solved(equations, start, tolerance).value
        return radius_at(equations, value, iterations)

    @property
    def well_posed(self) -> str | None:
        """What promises that there is one solution, for the weights as they are; None where only measuring can tell.

        A contraction by its Lipschitz bound, or a block whose parametrization is monotone.
        """
        return why_unique(self.block)

    def __getstate__(self) -> dict[str, Any]:
        # `penalty` holds a graph, which cannot be copied.
        return {name: value for name, value in vars(self).items() if name != "penalty"}

    def extra_repr(self) -> str:
        return f"solver={self.solver}, gradient={self.gradient}, well_posed={self.well_posed!r}"

    def _equations(
        self, inputs: tuple[Any, ...], start: Any, shared: dict[str, Any]
    ) -> tuple[BlockEquations, Any, float]:
        """The equations of a call, the state it starts from and its tolerance; the block is checked once a mode."""
        if is_transformed():
            raise MisuseError(
                "an equilibrium does not run within transforms of torch.func (grad, vmap, jvp ...), as its steps "
                "depend on its samples; expected torch.autograd.grad."
            )
        if start is None:
            if not inputs:
                raise MinimandError("an equilibrium was called with no input and no start; expected one of them.")
            if not all(isinstance(leaf, Tensor) for leaf in leaves(inputs[0])):
                raise WrongTypeError(f"input 0 of the equilibrium is {inputs[0]!r}; expected a tensor, or start=.")
            start = rebuild(inputs[0], [torch.zeros_like(leaf) for leaf in leaves(inputs[0])])
        packing = Packing(start)
        check_inputs(inputs, packing.samples)
        device = leaves(start)[0].device
        equations = BlockEquations(self.block, packing, inputs, shared, device)
        tolerance = self.solver.tolerance_in(equations.dtype)
        mode = self.block.training
        if mode not in self._samples_apart:
            equations.check_that_it_is_a_function(start)
            self._samples_apart[mode] = equations.samples_apart
        equations.samples_apart = self._samples_apart[mode]
        equations.note_gradient = self.tally.note_gradient
        return equations, start, tolerance

    def _solved(self, equations: BlockEquations, start: Any, tolerance: float) -> Solution:
        return self.gradient.solve(equations, start, self.solver, tolerance, at_point=False)

    def _needs_gradient(self, *values: Any) -> bool:
        tensors = (leaf for value in values for part in _parts(value) for leaf in leaves(part))
        requires = any(isinstance(x, Tensor) and x.requires_grad for x in tensors)
        return requires or any(p.requires_grad for p in self.block.parameters())

    def _after(self, equations: BlockEquations, start: Any, solution: Solution, attached: Attached | None) -> None:
        self.tally.note(solution)
        self.penalty = None
        if not self.training:
            return
        if attached is not None and self.jacobian_weight:
            self.penalty = self.jacobian_weight * jacobian_norm(equations, attached)
        equations.update_statistics(solution.value)
        if not self._has_warned and bool(solution.diverged.all()):
            self._has_warned = True
            with torch.no_grad():
                is_finite = all(bool(leaf.isfinite().any()) for leaf in leaves(equations.ask(start)))
            radius = radius_at(equations, start, iterations=10) if is_finite else math.nan
            warnings.warn(_divergence(self.solver, solution, radius), stacklevel=3)


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def _check_module(name: str, value: Any) -> None:
    if not isinstance(value, nn.Module):
        raise WrongTypeError(
            f"{name} is {value!r}; expected a module, by whose parameters and modes an equilibrium knows what to "
            "differentiate and to hold."
        )


def _takes_two(block: nn.Module) -> bool:
    """Whether a module can be called with (z, x)."""
    try:
        inspect.signature(uncompiled(block).forward).bind(None, None)
    except TypeError:
        return False
    return True


def _divergence(solver: Solver, solution: Solution, radius: float) -> str:
    """What is said once of a solve that diverged for every sample; the radius is NaN where the block answers so."""
    if math.isnan(radius):
        return (
            f"the block answers the first state with NaN or infinite numbers for all {len(solution.steps)} samples, so "
            "that there is nothing to solve: look at its inputs and weights."
        )
    return (
        f"the solver {solver.title} diverged from the first step for all {len(solution.steps)} samples: no "
        f"iterate has a smaller residual than the start, where the block's Jacobian has the radius {radius:.2g} "
        "(below 1 the plain iteration converges). Try mm.Anderson() or mm.Broyden(), mm.FixedPoint(relaxation=0.5), a "
        "normalization as the block's last layer, smaller initial weights, or minimand.equilibrium.Monotone as block. "
        "Training goes on from the best iterate; the run counts how often."
    )
