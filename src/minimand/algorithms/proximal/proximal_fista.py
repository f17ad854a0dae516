from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient
from .._growing import check_cap, growing_momentum


class ProximalFista(Algorithm):
    """y = x + b_k (x - x_previous);  x_next = prox(y - s grad(y), s), b_k = min(b(k), cap)   (Beck & Teboulle, 2009).

    FISTA in full: `Fista` where g = 0, `ProximalGradient` where the cap is 0. b(k) grows as there: 0, .28, .43 ...

    Converges: f convex and L-smooth, g convex, s = 1/L, uncapped; error O(1/k^2).
    Network: learned FISTA with a known prox; with an implicit block for it, x_next = y + T1(y) + T2(x_next) (Wu et
        al. 2024). For x' = T1 + T2 it converges where it is capped below 1, at speed 1 / (1 - cap).
    """

    references = ("beck2009fista", "wu2024optdnn")

    endless = True

    step_size: Coefficient = 1.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cap("ProximalFista.cap", self.cap)

    def momentum(self, k: int) -> float:
        """b_k, from 0 up to the cap."""
        return min(growing_momentum(k), self.cap)

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, prox: Any, k: int) -> Any:
        x, previous = state
        s = self.step_size(k)
        y = x + self.momentum(k) * (x - previous)
        return prox(y - s * gradient(y), s), x

    def read(self, state: Any) -> Any:
        return state[0]
