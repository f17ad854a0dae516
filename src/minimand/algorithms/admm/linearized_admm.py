from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class LinearizedADMM(Algorithm):
    """z' = (z - s grad_f(z) + y - u)/2;  y' = (y - s grad_g(y) + u + z')/2;  u' = u + z' - y'   (Li et al. 2018).

    Equation 6: minimizes f(z) + g(y) subject to z = y; u is the multiplier. Reads out y.

    Converges: f and g convex and L-smooth, s = 1/L, penalty and proximal weights 1/s; for x' = -grad f - grad g
        of order 1, at a third of the speed.
    Network: two streams that merge and run (DMRNet; Li et al. 2018), a block in each.
    """

    references = ("lin2011ladmm", "li2018optimization")

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, x, 0 * x

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        z, y, u = state
        s = self.step_size(k)
        z_next = (z - s * gradient_f(z) + y - u) / 2
        y_next = (y - s * gradient_g(y) + u + z_next) / 2
        return z_next, y_next, u + z_next - y_next

    def read(self, state: Any) -> Any:
        return state[1]
