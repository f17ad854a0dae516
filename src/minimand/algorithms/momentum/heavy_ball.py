from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class HeavyBall(Algorithm):
    """x_next = x - s grad(x) + m (x - x_previous)   (Polyak, 1964).

    Converges: f quadratic, mu-strongly convex and L-smooth, with 0 <= m < 1 and 0 < s < 2 (1 + m) / L; the best
        s = 4 / (sqrt L + sqrt mu)^2, m = ((sqrt L - sqrt mu) / (sqrt L + sqrt mu))^2 give the rate sqrt m.
    Network: HB-Net (Li et al. 2018, equation 11); with m = 0, ResNet.
    """

    references = ("polyak1964heavyball", "li2018optimization")

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.5

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        s, m = self.step_size(k), self.momentum(k)
        return x - s * gradient(x) + m * (x - previous), x

    def read(self, state: Any) -> Any:
        return state[0]
