from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class ProximalPoint(Algorithm):
    """y = x + m (x - x_previous);  x_next = prox(y, s)   (m = 0: Martinet, 1970; Rockafellar, 1976).

    prox(v, s) minimizes f(p) + |p - v|^2 / (2 s): gradient descent whose gradient is that at the new point.

    Converges: f convex, any s > 0, m = 0; f(x_k) - f* <= |x_0 - x*|^2 / (4 s k).
    Network: with an implicit block, x_next = y + T(x_next): implicit Euler for m = 0, stable for any monotone T.
    """

    references = ("martinet1970", "rockafellar1976")

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.0

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, prox: Any, k: int) -> Any:
        x, previous = state
        return prox(x + self.momentum(k) * (x - previous), self.step_size(k)), x

    def read(self, state: Any) -> Any:
        return state[0]
