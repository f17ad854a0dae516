from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient, Drawn


class BDIA(Algorithm):
    """x_next = g x_previous + (1 - g) x - (1 + g) grad(x), g = 1/2 or -1/2 by a coin   (BDIA; Zhang et al. 2024).

    The coin is thrown in training for each sample and layer; in evaluation g = 0, which is ResNet.

    Converges: for each g it is heavy ball with momentum -g and step size 1 + g.
    Network: a ResNet trained as one of many momentum networks, each of which runs backwards in closed form.
    """

    references = ("zhang2024bdia",)

    sign: Coefficient = Drawn(-0.5, 0.5)

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        g = self.sign(k)
        return x - g * (x - previous) - (1 + g) * gradient(x), x

    def read(self, state: Any) -> Any:
        return state[0]
