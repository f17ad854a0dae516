from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class MergeAndRun(Algorithm):
    """z_next = (z + y)/2 - s grad_f(z);  y_next = (z + y)/2 - s grad_g(y)   (Zhao et al. 2018).

    Reads out the mean of the two streams.

    Converges: f and g convex and L-smooth, 0 < s < 1/L, to a minimizer of f + g and no consensus beyond O(s); for
        x' = -grad f - grad g of order 1, at half the speed.
    Network: DMRNet; what Li et al. 2018 make of ADMM by keeping one step of memory (their equation 20).
    """

    references = ("zhao2018dmrnet", "li2018optimization")

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        z, y = state
        s = self.step_size(k)
        merged = (z + y) / 2
        return merged - s * gradient_f(z), merged - s * gradient_g(y)

    def read(self, state: Any) -> Any:
        return (state[0] + state[1]) / 2
