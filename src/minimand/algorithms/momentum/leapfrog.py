from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class Leapfrog(Algorithm):
    """x_next = x_previous - 2 s grad(x)   (explicit midpoint rule).

    Converges: a second-order method for x' = -grad(x), only weakly stable (pole -1): not a minimizer.
    Network: the midpoint network (Chang et al. 2018); invertible in closed form. Every other block does not
        reach the output.
    """

    references = ("chang2018reversible",)

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        return previous - 2 * self.step_size(k) * gradient(x), x

    def read(self, state: Any) -> Any:
        return state[0]
