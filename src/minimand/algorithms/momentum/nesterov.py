from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class Nesterov(Algorithm):
    """y = x + m (x - x_previous);  x_next = y - s grad(y)   (Nesterov, 1983; iterate form, constant momentum).

    Converges: f mu-strongly convex and L-smooth, s = 1/L, m = (sqrt L - sqrt mu) / (sqrt L + sqrt mu);
        rate 1 - sqrt(mu/L).
    Network: AGD-Net (Li et al. 2018, equation 12). With the momentum given for step k it is the same network
        as `NesterovY` with the momentum of step k + 1.
    """

    references = ("nesterov1983", "li2018optimization")

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.5

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        y = x + self.momentum(k) * (x - previous)
        return y - self.step_size(k) * gradient(y), x

    def read(self, state: Any) -> Any:
        return state[0]
