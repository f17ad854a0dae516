"""A prox oracle that is answered by solving an equation: the implicit step of a network of finite depth."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError
from ..algorithms import Algorithm
from ..equilibrium import Anderson, Equilibrium, FixedPoint, Solver
from ..equilibrium.block.wellposed import lipschitz_bound
from ..layers.convex_gradient import MONOTONE, ConvexGradient
from ..theory.kernel import Binding, check_binding
from .proximal import Prox
from .registry import as_block


class Implicit(Prox):
    """A learned block T that answers a prox oracle: prox(v, s) is the u with u = v + s T(u), its gradient included.

    So x_next = prox(x - s grad(x), s) becomes x_next = x + T1(x) + T2(x_next): a step of finite depth that reads the
    state it leads to. The equation has one solution where s T is a contraction, or, for any s and any weights, where T
    is a `ConvexGradient`. A solve starts at v; its gradient is that of the solution, by the implicit function theorem.
    Under autocast the equation is solved in float32: half precisions could not tell a solution from what is near it.

    Args:
        block: a module T that keeps the shape, or the name of one.
        solver: `mm.Anderson()`, the default, `mm.Broyden()`, `mm.FixedPoint()`, an algorithm or a name, as
            `mm.Equilibrium` takes it. Of a `ConvexGradient`, Anderson's and the plain iteration get the relaxation
            that converges best, 2 / (2 + s |W|^2), unless they have one of their own.
        binding: that of the network: under "operator" the gradient is u - T(u), and (1 + s) u = v + s T(u).

    Raises:
        MinimandError: a step size that is not positive; a block that changes the shape; at the first call of either
            mode, an equation that the solver does not come nearer to solving, with how much s T stretches.
    """

    def __init__(
        self,
        block: nn.Module | str,
        solver: Solver | Algorithm | type[Solver | Algorithm] | str | None = None,
        binding: Binding = "residual",
    ) -> None:
        super().__init__()
        module = as_block(block)
        if not isinstance(module, nn.Module):
            raise WrongTypeError(f"block is {block!r}; expected a module T, or the name of a block.")
        if isinstance(module, Prox):
            raise WrongTypeError(
                f"block is {type(module).__name__}, which answers a prox as it is; expected a block T."
            )
        check_binding(binding)
        self.binding = binding
        self.equilibrium = Equilibrium.from_function(_Step(module, binding), solver)
        self._is_relaxed = getattr(self.equilibrium.solver, "relaxation", None) == 1
        self._modes_checked: set[bool] = set()

    @property
    def well_posed(self) -> str | None:
        """What promises that a step of size 1 has one solution, for the weights as they are; None if nothing does."""
        if isinstance(self.block, ConvexGradient) and isinstance(self.block.activation, MONOTONE):
            return "the prox of a convex function, for all weights and step sizes"
        bound = lipschitz_bound(self.block)
        return f"s T is a contraction for s below {1 / bound:.3g}" if 0 < bound < 1 else None

    @property
    def block(self) -> nn.Module:
        """The module T that the step asks at the point it leads to."""
        return self._step.block

    @property
    def _step(self) -> "_Step":
        step = self.equilibrium.block
        assert isinstance(step, _Step)
        return step

    def extra_repr(self) -> str:
        return f"binding={self.binding!r}, well_posed={self.well_posed!r}"

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        """The u with u = v + s T(u) for the points v (N, ...), of their shape."""
        if not bool(torch.as_tensor(step_size > 0).all()):
            raise MinimandError(f"the step size of a prox is {_shown(step_size)}; expected more than 0.")
        self._relax(step_size)
        kind = point.device.type
        if torch.is_autocast_enabled(kind):
            point = point.float()
        with torch.autocast(kind, enabled=False):
            rows: tuple[Tensor, ...] = (point,)
            shared: dict[str, Any] = {"start": point.detach()}
            # Samples that are done leave the solve, and a step size of each sample has to leave with it.
            if isinstance(step_size, Tensor) and step_size.ndim == point.ndim and len(step_size) == len(point):
                rows = (point, step_size)
            else:
                shared["step_size"] = step_size
            if self.training not in self._modes_checked:
                devices = [point.device] if point.is_cuda else []
                # A checkpoint runs the step again without this check, and has to draw the same.
                with torch.random.fork_rng(devices):
                    self._check(rows, shared, step_size)
                self._modes_checked.add(self.training)
            return self.equilibrium(*rows, **shared)

    @torch.no_grad()
    def _relax(self, step_size: float | Tensor) -> None:
        """Let the solver take the share with which the plain iteration on a convex gradient converges best."""
        solver = self.equilibrium.solver
        if self._is_relaxed and isinstance(solver, Anderson | FixedPoint) and isinstance(self.block, ConvexGradient):
            curvature = float(torch.as_tensor(step_size).max()) * self.block.curvature()
            self.equilibrium.solver = replace(solver, relaxation=max(2 / (2 + curvature), 1e-3))

    def _check(self, rows: tuple[Tensor, ...], shared: dict[str, Any], step_size: float | Tensor) -> None:
        solution = self.equilibrium.solve(*rows, **shared)
        if solution.result == "converged":
            return
        radius = self.equilibrium.spectral_radius(*rows, **shared)
        if solution.result == "stopped" and (radius < 1 or isinstance(self.block, ConvexGradient)):
            return
        solver = self.equilibrium.solver.title
        raise MinimandError(
            f"{solver} does not solve the implicit step u = v + s T(u), s = {_shown(step_size)} ({solution}): the "
            f"Jacobian of s T, T a {type(self.block).__name__}, has the spectral radius {radius:.3g} there, and below "
            "1 there is sure to be a solution. Expected smaller weights (torch's spectral_norm), a smaller step_size, "
            "or mm.blocks.convex_gradient with mm.Anderson(), whose step has a solution for all weights."
        )


class _Step(nn.Module):
    """The map u -> v + s T(u) whose fixed point is the implicit step."""

    def __init__(self, block: nn.Module, binding: Binding) -> None:
        super().__init__()
        self.block, self.is_operator = block, binding == "operator"

    def forward(self, u: Tensor, v: Tensor, step_size: float | Tensor) -> Tensor:
        answer = self.block(u)
        if not isinstance(answer, Tensor) or answer.shape != u.shape:
            received = f"{tuple(u.shape)} to {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"to {answer!r}"
            raise MinimandError(
                f"the block of an implicit step ({type(self.block).__name__}) maps {received}; expected one shape, as "
                "u = v + s T(u)."
            )
        u = v + step_size * answer
        return u / (1 + step_size) if self.is_operator else u


def _shown(step_size: float | Tensor) -> str:
    return f"{float(torch.as_tensor(step_size).min()):g}"
