"""What a gradient of a solution is: how the state that solves an equation gets one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._support.errors import MinimandError, WrongTypeError
from .._support.names.registry import Registry, subclass_of
from ..algorithms import leaves, rebuild
from .block.equations import BlockEquations
from .solution import Solution
from .solver import Solver
from .solvers.anderson import Anderson
from .solving import run


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """A way to differentiate the solution of z = block(z, x)."""

    has_jacobian: ClassVar[bool] = True
    """Whether the forward pass has a graph of the block at the solution, of which the Jacobian can be asked."""

    def usual_solver(self) -> Solver:
        """The solver of an equilibrium that names none."""
        return Anderson()

    def check(self, solver: Solver) -> None:
        """Raise MinimandError for a solver that this gradient does not go with."""

    @property
    def of_one_call(self) -> "Gradient":
        """The gradient by which a model is measured: each call of the block with a graph is gone back through once."""
        return self

    def solve(
        self, equations: BlockEquations, start: Any, solver: Solver, tolerance: float, at_point: bool
    ) -> Solution:
        """The solution without a gradient; with `at_point` its value is the best iterate z, not block(z, x)."""
        return run(equations, start, equations.packing, solver, tolerance, at_point)

    def attach(self, equations: BlockEquations, state: Any, solver: Solver, tolerance: float) -> "Attached":
        """The output with its gradient, from the best iterate."""
        raise WrongTypeError(f"{type(self).__name__} has no method attach(self, equations, state, solver, tolerance).")

    def forward(
        self, equations: BlockEquations, start: Any, solver: Solver, tolerance: float
    ) -> tuple["Attached", Solution]:
        """The output with its gradient, and the solution that it is of."""
        solution = self.solve(equations, start, solver, tolerance, at_point=True)
        return self.attach(equations, solution.value, solver, tolerance), solution


@dataclass
class Attached:
    """An output with its gradient, and what others use of how it was computed."""

    output: Any
    """The state that the equilibrium returns."""
    point: Any
    """The state of leaves z at which the block was asked, for its Jacobian; None where there is none."""
    answer: Any
    """The block's answer at `point`, with its graph."""


def asked_with_graph(equations: BlockEquations, state: Any, inputs: Sequence[Any] | None = None) -> Attached:
    """The block asked once more at a solution, with a graph to it, to its parameters and to its inputs.

    With `inputs`, those of some samples, the state is theirs.
    """
    point = rebuild(state, [leaf.detach().requires_grad_() for leaf in leaves(state)])
    with torch.enable_grad():
        answer = equations.ask(point, inputs)
    return Attached(answer, point, answer)


def no_second_derivative(name: str) -> None:
    """Raise MinimandError in a backward pass that is to be differentiated again."""
    if torch.is_grad_enabled():
        raise MinimandError(
            f"a second derivative of an equilibrium with gradient={name!r} was asked for (create_graph=True); expected "
            "first derivatives only. gradient='phantom' and 'jacobian_free' have second ones, of their own steps."
        )


def zeros_for_none(gradients: Any, like: list[Tensor]) -> list[Tensor]:
    """Gradients with zeros where there are none."""
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, like, strict=True)]


GRADIENTS: Registry[type[Gradient]] = Registry(
    "gradient of equilibria", "gradients", f"{__package__}.gradients", subclass_of(Gradient)
)
"""The gradients of solutions by name; a file in the folder `gradients` registers its own."""


def as_gradient(value: Any) -> Gradient:
    """The gradient that `value` stands for: itself, or a name such as "implicit" or "phantom(steps=3)"."""
    if isinstance(value, Gradient):
        return value
    if isinstance(value, type) and issubclass(value, Gradient):
        return value()
    if isinstance(value, str):
        return GRADIENTS.make(value)
    raise WrongTypeError(f"gradient is {value!r}; expected a name: {', '.join(GRADIENTS)}.")
