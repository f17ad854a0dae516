from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class ADMM(Algorithm):
    """z' = prox_f(y - u, s);  y' = prox_g(z' + u, s);  u' = u + z' - y'   (Gabay & Mercier, 1976; scaled multiplier).

    Minimizes f(z) + g(y) subject to z = y, with penalty 1/s. Reads out y. `LinearizedADMM` has gradients in its place.

    Converges: f and g convex, any s > 0.
    Network: the same as `DouglasRachford` with relaxation 1, whose states are x = y and z = y + u (Eckstein &
        Bertsekas, 1992).
    """

    references = ("gabay1976", "eckstein1992")

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, 0 * x

    def step(self, state: Any, prox_f: Any, prox_g: Any, k: int) -> Any:
        y, u = state
        s = self.step_size(k)
        z = prox_f(y - u, s)
        y = prox_g(z + u, s)
        return y, u + z - y

    def read(self, state: Any) -> Any:
        return state[0]
