from numbers import Real
from typing import Any

from ..._support.errors import MinimandError, WrongTypeError
from .._algorithm import Algorithm
from .._coefficient import Coefficient


class RungeKutta(Algorithm):
    """y_i = x - s sum_j a(i, j) grad(y_j);  x_next = x - s sum_j b(j) grad(y_j)   (Kutta, 1901).

    The tableau lists the rows of a below the first, which is empty, and then b: row i has i entries. The default
    is the classical method of order 4. All gradients of a step are of one block.

    Converges: of the order of the method for x' = -grad(x); f convex and L-smooth, s below the bound of the
        stability region over L.
    Network: a ResNet that asks each block as often as the method has stages.
    """

    references = ("kutta1901", "hairer1993")

    step_size: Coefficient = 1.0
    tableau: tuple[tuple[float, ...], ...] = ((1 / 2,), (0, 1 / 2), (0, 0, 1), (1 / 6, 1 / 3, 1 / 3, 1 / 6))

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = self.tableau
        if not isinstance(rows, tuple) or not rows or not all(isinstance(row, tuple) for row in rows):
            raise WrongTypeError(f"RungeKutta.tableau is {rows!r}; expected rows, such as ((0.5,), (0, 1)).")
        for i, row in enumerate(rows, start=1):
            if len(row) != i or not all(isinstance(entry, Real) for entry in row):
                raise MinimandError(
                    f"RungeKutta.tableau has {row!r} for its row {i}; expected {i} numbers: an explicit method's "
                    "stage reads the answers before it, and the last row weighs them all."
                )

    def start(self, x: Any) -> Any:
        return x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        point, answers = state, []
        for row in self.tableau:
            answers.append(gradient(point))
            point = state - self.step_size(k) * sum(a * answer for a, answer in zip(row, answers, strict=True))
        return point

    def read(self, state: Any) -> Any:
        return state
