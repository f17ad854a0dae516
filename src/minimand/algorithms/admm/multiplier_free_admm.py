from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class MultiplierFreeADMM(Algorithm):
    """z' = z + y - (z_p + y_p)/2 - s/2 (grad_f(z) - grad_f(z_p)),  and y' = y + (z' - y_p)/2 - s/2 (same of g at y).

    `LinearizedADMM` with the multiplier eliminated; _p marks the previous step, whose gradients are 0 at the
    start. The same network with a fixed step size. Reads out y.

    Converges: as `LinearizedADMM`, from its own start only: from others its linear part drifts (a double pole at 1).
    Network: as `LinearizedADMM`, in the one variable per stream of Wu et al. 2024's example.
    """

    references = ("lin2011ladmm", "wu2024optdnn")

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, x, 0 * x, x, x, 0 * x

    def step(self, state: Any, gradient_f: Any, gradient_g: Any, k: int) -> Any:
        z, z_previous, f_previous, y, y_previous, g_previous = state
        half = self.step_size(k) / 2
        f, g = gradient_f(z), gradient_g(y)
        z_next = z - z_previous / 2 + y - y_previous / 2 - half * (f - f_previous)
        y_next = y - y_previous / 2 + z_next / 2 - half * (g - g_previous)
        return z_next, z, f, y_next, y, g

    def read(self, state: Any) -> Any:
        return state[3]
