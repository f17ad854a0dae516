from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class OrderTwoMomentum(Algorithm):
    """x_next = x + m (x - x_previous) - s ((3 - m)/2 grad(x) - (1 + m)/2 grad(x_previous)).

    The two-step method of order 2 with the momentum given: m = 0 is `AdamsBashforth2`, m = -1 `Leapfrog`.

    Converges: a second-order method for x' = -grad(x); f convex and L-smooth, -1 < m < 1, small s.
    Network: a linear multistep network (Lu et al. 2018) of order 2; its start is of order 1.
    """

    references = ("hairer1993", "lu2018beyond")

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.5

    def start(self, x: Any) -> Any:
        return x, x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous, previous_answer = state
        m = self.momentum(k)
        answer = gradient(x)
        drift = (3 - m) / 2 * answer - (1 + m) / 2 * previous_answer
        return x + m * (x - previous) - self.step_size(k) * drift, x, answer

    def read(self, state: Any) -> Any:
        return state[0]
