from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class MomentumResidual(Algorithm):
    """v_next = m v - (1 - m) s grad(x);  x_next = x + v_next   (Sander et al. 2021; heavy ball in velocity form).

    Converges: as `HeavyBall` with step size (1 - m) s, which it equals.
    Network: Momentum ResNet; invertible in closed form for m > 0.
    """

    references = ("sander2021momentum", "polyak1964heavyball")

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.9

    def start(self, x: Any) -> Any:
        return x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, v = state
        m = self.momentum(k)
        v = m * v - (1 - m) * self.step_size(k) * gradient(x)
        return x + v, v

    def read(self, state: Any) -> Any:
        return state[0]
