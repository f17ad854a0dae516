"""Any algorithm of the library as a solver: its gradient is x - f(x)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..._support.errors import MinimandError
from ...algorithms import Algorithm, as_algorithm, is_map, is_proximal, leaves, rebuild
from ..solver import SOLVERS, Iteration, Solver, Step


@SOLVERS.register("stepped")
@dataclass(frozen=True)
class Stepped(Solver):
    """An algorithm run with the gradient x - f(x), under which gradient descent is the fixed-point iteration.

    A learnable coefficient has its initial value.
    """

    algorithm: Algorithm | type[Algorithm] | str = "gradient_descent"
    """An algorithm that asks one gradient, its class, or its name with coefficients."""

    def __post_init__(self) -> None:
        super().__post_init__()
        algorithm = as_algorithm(self.algorithm)
        object.__setattr__(self, "algorithm", algorithm)
        oracles = algorithm.oracles
        if len(oracles) != 1 or is_proximal(oracles[0]) or is_map(oracles[0]):
            raise MinimandError(
                f"solver is {algorithm}, which asks {', '.join(oracles)}; expected an algorithm that asks one "
                "gradient, such as heavy_ball."
            )

    @property
    def title(self) -> str:
        return str(self.algorithm)

    def begin(self, start: Tensor) -> Iteration:
        return _Stepping(as_algorithm(self.algorithm), start)


class _Stepping:
    def __init__(self, algorithm: Algorithm, start: Tensor) -> None:
        self.algorithm, self.state, self.count = algorithm, algorithm.start_alone(start), 0

    def advance(self, f: Callable[[Tensor], Tensor]) -> Step:
        steps: list[Step] = []

        def gradient(x: Tensor) -> Tensor:
            answer = f(x)
            steps.append(Step(x, answer, answer - x))
            return -steps[-1].residual

        self.state = self.algorithm.step(self.state, gradient, self.count)
        self.count += 1
        if not steps:
            raise MinimandError(f"solver is {self.algorithm}, whose step {self.count - 1} asks no gradient.")
        return steps[-1]

    def keep(self, rows: Tensor) -> None:
        parts: list[Any] = [leaf[rows] if isinstance(leaf, Tensor) else leaf for leaf in leaves(self.state)]
        self.state = rebuild(self.state, parts)
