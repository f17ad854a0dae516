from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class ProximalGradient(Algorithm):
    """x_next = prox(x - s grad(x), s)   (forward-backward splitting; as ISTA, Daubechies et al. 2004).

    prox(v, s) minimizes g(p) + |p - v|^2 / (2 s): for g = w |.|_1 it is soft thresholding by s w.

    Converges: f convex and L-smooth, g convex, s = 1/L; error O(1/k).
    Network: with a known prox, algorithm unrolling: ISTA for a known gradient, LISTA (Gregor & LeCun, 2010) for a
        learned one. With an implicit block for the prox, x_next = x + T1(x) + T2(x_next) (Wu et al. 2024).
    """

    references = ("daubechies2004ista", "gregor2010lista", "wu2024optdnn")

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x

    def step(self, state: Any, gradient: Any, prox: Any, k: int) -> Any:
        s = self.step_size(k)
        return prox(state - s * gradient(state), s)

    def read(self, state: Any) -> Any:
        return state
