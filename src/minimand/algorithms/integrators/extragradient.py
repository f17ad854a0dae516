from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class Extragradient(Algorithm):
    """y = x - a s grad(x);  x_next = x - s grad(y)   (Korpelevich, 1976; a = 1 there).

    Both gradients of a step are of one block. a = 1/2 is the explicit midpoint rule, of order 2.

    Converges: monotone L-Lipschitz operators, saddle points included, a = 1, s < 1/L.
    Network: a ResNet that asks each block twice: ahead, then at what it found there.
    """

    references = ("korpelevich1976",)

    step_size: Coefficient = 1.0
    lookahead: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        s = self.step_size(k)
        return state - s * gradient(state - self.lookahead(k) * s * gradient(state))

    def read(self, state: Any) -> Any:
        return state
