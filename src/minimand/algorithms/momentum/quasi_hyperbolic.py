from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class QuasiHyperbolic(Algorithm):
    """v_next = m v + (1 - m) grad(x);  x_next = x - s ((1 - w) grad(x) + w v_next)   (QHM; Ma & Yarats, 2019).

    w is the weight of the momentum in the step: 0 gives gradient descent, 1 heavy ball, m Nesterov's method,
    the last two with step size (1 - m) s.

    Converges: f convex and L-smooth, for every weight in [0, 1] with a small enough step.
    Network: between ResNet and HB-Net.
    """

    references = ("ma2019qhm",)

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.9
    weight: Coefficient = 0.7

    def start(self, x: Any) -> Any:
        return x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, v = state
        m, w = self.momentum(k), self.weight(k)
        answer = gradient(x)
        v = m * v + (1 - m) * answer
        return x - self.step_size(k) * ((1 - w) * answer + w * v), v

    def read(self, state: Any) -> Any:
        return state[0]
