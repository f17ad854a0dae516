from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class AdamsBashforth2(Algorithm):
    """x_next = x - s (3/2 grad(x) - 1/2 grad(x_previous))   (Bashforth & Adams, 1883).

    Converges: a second-order method for x' = -grad(x); f convex and L-smooth, 0 < s < 1/L.
    Network: a linear multistep network (Lu et al. 2018) of order 2; its start is of order 1.
    """

    references = ("bashforth1883", "lu2018beyond")

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous_answer = state
        answer = gradient(x)
        return x - self.step_size(k) * (1.5 * answer - 0.5 * previous_answer), answer

    def read(self, state: Any) -> Any:
        return state[0]
