from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class NesterovY(Algorithm):
    """x_next = y - s grad(y);  y_next = x_next + m (x_next - x)   (Nesterov, 1983; the query y is the state).

    y_next = (1 + m)(y - s grad(y)) - m (y_previous - s grad(y_previous)): the previous answer is reused,
    x carries it. Reads out x.

    Converges: as `Nesterov`.
    Network: likely OptDNN-APG2 (Wu et al. 2024; a reconstruction, the paper's table could not be read).
    """

    references = ("nesterov1983", "wu2024optdnn")

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.5

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        y, x = state
        x_next = y - self.step_size(k) * gradient(y)
        return x_next + self.momentum(k) * (x_next - x), x_next

    def read(self, state: Any) -> Any:
        return state[1]
