from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class HessianDamped(Algorithm):
    """x_next = x + m (x - x_previous) - s grad(x) - d (grad(x) - grad(x_previous))   (DIN; Attouch et al. 2022).

    The last term is the Hessian times the velocity, from two gradients; it damps the oscillations of momentum.

    Converges: f convex and L-smooth, m = 1 - c/k, small s and d; error O(1/k^2).
    Network: heavy ball with a block that also reads the previous block's answer.
    """

    references = ("attouch2022din",)

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.5
    damping: Coefficient = 0.5

    def start(self, x: Any) -> Any:
        return x, x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous, previous_answer = state
        s, m, d = self.step_size(k), self.momentum(k), self.damping(k)
        answer = gradient(x)
        return x + m * (x - previous) - s * answer - d * (answer - previous_answer), x, answer

    def read(self, state: Any) -> Any:
        return state[0]
