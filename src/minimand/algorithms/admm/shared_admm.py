from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class SharedADMM(Algorithm):
    """z' = (z - s grad(z) + y - u)/2;  y' = (y - s grad(y) + z' + u)/2;  u' = u + z' - y'   (Li et al. 2018).

    `LinearizedADMM` with f = g: one block serves both streams, as equation 14 is printed with one W.

    Converges: as `LinearizedADMM`.
    Network: the ADMM network of Li et al. 2018 under the operator binding. Which stream is read out is not
        printed; here y, and both agree in the limit.
    """

    references = ("li2018optimization",)

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        z, y, u = state
        s = self.step_size(k)
        z_next = (z - s * gradient(z) + y - u) / 2
        y_next = (y - s * gradient(y) + z_next + u) / 2
        return z_next, y_next, u + z_next - y_next

    def read(self, state: Any) -> Any:
        return state[1]
