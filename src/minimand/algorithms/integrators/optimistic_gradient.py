from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class OptimisticGradient(Algorithm):
    """x_next = x - s (2 grad(x) - grad(x_previous))   (Popov, 1980: past extragradient).

    Converges: monotone L-Lipschitz operators, saddle points included, s < 1 / (2 L).
    Network: a ResNet that extrapolates each block's answer from the one before.
    """

    references = ("popov1980",)

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous_answer = state
        answer = gradient(x)
        return x - self.step_size(k) * (2 * answer - previous_answer), answer

    def read(self, state: Any) -> Any:
        return state[0]
