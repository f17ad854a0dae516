from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient, Learnable


class InputInjection(Algorithm):
    """z = r x + a x_0;  x_next = z - s grad(z), x_0 the input   (nanochat and modded-nanogpt, 2025).

    Converges: to a minimum of f(z) + (1 - r) / (2 s r) |z - x_0|^2 in z, where r + a = 1 and f is convex and
        L-smooth with s <= 1/L: gradient descent on f and a step towards x_0 take turns.
    Network: a residual stream that is scaled by r and fed the embedding by a in each layer. With r = 1 and a = 0,
        ResNet; consistent where r + a = 1.
    """

    references = ("karpathy2025nanochat",)

    step_size: Coefficient = 1.0
    retained: Coefficient = Learnable(0.9, 0.0, 2.0)
    injected: Coefficient = Learnable(0.1, -1.0, 1.0)

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, first = state
        z = self.retained(k) * x + self.injected(k) * first
        return z - self.step_size(k) * gradient(z), first

    def read(self, state: Any) -> Any:
        return state[0]
