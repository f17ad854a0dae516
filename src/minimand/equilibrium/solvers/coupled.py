"""Two coupled relaxed iterations, each of which can be run back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._support.checks import check_number
from ..solver import SOLVERS, Iteration, Solver, Step

Rows = Callable[[Tensor], Tensor]


@SOLVERS.register("coupled")
@dataclass(frozen=True, kw_only=True)
class Coupled(Solver):
    """Two iterations that ask the block in turns: y <- (1 - r) y + r f(z), then z <- (1 - r) z + r f(y).

    Each step can be undone from its result alone (McCallum et al., 2025), so that gradient="reversible" needs the
    memory of one call. It then takes `max_steps` steps always, each of two calls.
    """

    max_steps: int = 12
    """The number of steps, each of two calls of the block."""
    relaxation: float = 0.5
    """The share r of the block's answer. Undoing a step divides by 1 - r, and so do its rounding errors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("Coupled.relaxation", self.relaxation, 1e-3, 1, below=True)

    def begin(self, start: Tensor) -> Iteration:
        return _Coupled(start, self)

    def forth(self, f: Rows, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A step of both states: the next ones, and f of the next y."""
        y = torch.lerp(y, f(z), self.relaxation)
        answer = f(y)
        return y, torch.lerp(z, answer, self.relaxation), answer

    def back(self, answer: Tensor, after: Tensor) -> Tensor:
        """A state before a step, from that after it and the block's answer in it."""
        return (after - self.relaxation * answer) / (1 - self.relaxation)

    def round_off(self, dtype: torch.dtype, radius: float = 0.0) -> float:
        """The relative error of the first state when all steps are run back, for a block of this spectral radius."""
        growth = (1 + self.relaxation * radius) / (1 - self.relaxation)
        return torch.finfo(dtype).eps / 2 * growth**self.max_steps


class _Coupled:
    def __init__(self, start: Tensor, solver: Coupled) -> None:
        self.y = self.z = start
        self.solver = solver

    def advance(self, f: Rows) -> Step:
        self.y, self.z, answer = self.solver.forth(f, self.y, self.z)
        return Step(self.y, answer, answer - self.y)

    def keep(self, rows: Tensor) -> None:
        self.y, self.z = self.y[rows], self.z[rows]
