from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient
from .._growing import check_cap, growing_momentum


class Fista(Algorithm):
    """y = x + b_k (x - x_previous);  x_next = y - s grad(y), with b_k = min(b(k), cap)   (Beck & Teboulle, 2009).

    b(k) = (t(k-1) - 1) / t(k), t(0) = 1, t(k) = (1 + sqrt(1 + 4 t(k-1)^2)) / 2 grows to 1: 0, .28, .43, .53 ...

    Converges: f convex and L-smooth, s = 1/L, uncapped; error O(1/k^2).
    Network: AGD-Net (Li et al. 2018, equation 12). Uncapped it approximates no first-order differential
        equation but x'' + (3/t) x' = T(x) (Su et al. 2016); capped below 1 it does.
    """

    references = ("beck2009fista", "su2016ode", "li2018optimization")

    endless = True

    step_size: Coefficient = 1.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cap("Fista.cap", self.cap)

    def momentum(self, k: int) -> float:
        """b_k, from 0 up to the cap."""
        return min(growing_momentum(k), self.cap)

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        y = x + self.momentum(k) * (x - previous)
        return y - self.step_size(k) * gradient(y), x

    def read(self, state: Any) -> Any:
        return state[0]
