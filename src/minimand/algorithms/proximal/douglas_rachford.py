from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class DouglasRachford(Algorithm):
    """w = prox_f(2 x - z, s);  z' = z + r (w - x);  x' = prox_g(z', s)   (Douglas & Rachford, 1956; Lions & Mercier).

    Minimizes f(x) + g(x), with relaxation r. z and x both start at the input.

    Converges: f and g convex, any s > 0, 0 < r < 2.
    Network: two implicit blocks a layer; for r = 1, x' = x + T_f(w) + T_g(x'), the third implicit network of
        Wu et al. 2024 as we read it.
    """

    references = ("douglas1956", "lions1979", "wu2024optdnn")

    step_size: Coefficient = 1.0
    relaxation: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, prox_f: Any, prox_g: Any, k: int) -> Any:
        z, x = state
        s = self.step_size(k)
        z = z + self.relaxation(k) * (prox_f(2 * x - z, s) - x)
        return z, prox_g(z, s)

    def read(self, state: Any) -> Any:
        return state[1]
