"""The gradient of one application of the block."""

from dataclasses import dataclass
from typing import Any

from ..block.equations import BlockEquations
from ..gradient import GRADIENTS, Attached, Gradient, asked_with_graph
from ..solver import Solver


@GRADIENTS.register("jacobian_free")
@dataclass(frozen=True, kw_only=True)
class JacobianFree(Gradient):
    """The gradient of one call of the block at the solution, as if J were 0 (Fung et al., 2022).

    A descent direction where the block is contractive enough; its error is that of J^T dl/dz and all that follows.
    """

    def attach(self, equations: BlockEquations, state: Any, solver: Solver, tolerance: float) -> Attached:
        return asked_with_graph(equations, state)
