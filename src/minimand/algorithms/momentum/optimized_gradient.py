from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient
from .._growing import growing_t


class OptimizedGradient(Algorithm):
    """x_next = y - s grad(y);  y_next = x_next + (t - 1)/t' (x_next - x) + t/t' (x_next - y)   (Kim & Fessler, 2016).

    OGM. t = t(k), t' = t(k + 1) as in `Fista`: its step, and as much again along the last gradient. Reads out x.

    Converges: f convex and L-smooth, s = 1/L: f(x_k) - f* <= L |x_0 - x*|^2 / (4 t(k - 1)^2), half of Fista's bound.
        No first-order method does better but by a last step that knows the number of steps.
    Network: AGD-Net with a larger weight on each block.
    """

    references = ("kim2016ogm",)

    endless = True

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        y, x = state
        t, t_next = growing_t(k), growing_t(k + 1)
        x_next = y - self.step_size(k) * gradient(y)
        return x_next + (t - 1) / t_next * (x_next - x) + t / t_next * (x_next - y), x_next

    def read(self, state: Any) -> Any:
        return state[1]
