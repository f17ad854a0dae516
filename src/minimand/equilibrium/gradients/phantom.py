"""The gradient of a few damped steps from the solution."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..._support.checks import check_number
from ...algorithms import leaves, rebuild
from ..block.equations import BlockEquations
from ..gradient import GRADIENTS, Attached, Gradient, asked_with_graph
from ..solver import Solver


@GRADIENTS.register("phantom")
@dataclass(frozen=True, kw_only=True)
class Phantom(Gradient):
    """The gradient of a few steps z <- (1 - r) z + r block(z, x) from the solution on (Geng et al., 2021).

    Memory is that of so many calls of the block.
    """

    steps: int = 5
    """The number of steps that gradients go through."""
    relaxation: float = 0.5
    """The share r of the block's answer in each step."""

    def __post_init__(self) -> None:
        check_number("phantom.steps", self.steps, 1, math.inf, whole=True)
        check_number("phantom.relaxation", self.relaxation, 1e-3, 1)

    def attach(self, equations: BlockEquations, state: Any, solver: Solver, tolerance: float) -> Attached:
        attached = asked_with_graph(equations, state)
        before, answer = rebuild(state, [leaf.detach() for leaf in leaves(state)]), attached.answer
        with torch.enable_grad():
            for step in range(self.steps):
                if step:
                    answer = equations.ask(before)
                pairs = zip(leaves(before), leaves(answer), strict=True)
                before = rebuild(before, [torch.lerp(z, a.to(z.dtype), self.relaxation) for z, a in pairs])
        attached.output = before
        return attached
