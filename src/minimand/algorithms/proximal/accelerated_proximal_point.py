from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient
from .._growing import check_cap, growing_momentum


class AcceleratedProximalPoint(Algorithm):
    """y = x + b_k (x - x_previous);  x_next = prox(y, s), with b_k = min(b(k), cap)   (Guler, 1992).

    `ProximalPoint` with the growing momentum b(k) of `Fista`: 0, .28, .43, .53 ...

    Converges: f convex, any s > 0, uncapped; f(x_k) - f* <= 2 |x_0 - x*|^2 / (s (k + 1)^2).
    Network: x_next = y + T(x_next), the implicit twin of `Fista`.
    """

    references = ("guler1992",)

    endless = True

    step_size: Coefficient = 1.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cap("AcceleratedProximalPoint.cap", self.cap)

    def momentum(self, k: int) -> float:
        """b_k, from 0 up to the cap."""
        return min(growing_momentum(k), self.cap)

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, prox: Any, k: int) -> Any:
        x, previous = state
        return prox(x + self.momentum(k) * (x - previous), self.step_size(k)), x

    def read(self, state: Any) -> Any:
        return state[0]
