from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient


class ChambollePock(Algorithm):
    """v = q + d a;  q' = v - d prox_f(v / d, 1/d);  x' = prox_g(x - s q', s);  a' = x' + m (x' - x)   (2011, K = I).

    The primal-dual method for `min_x max_q <x, q> - f*(q) + g(x)`; the prox of `d f*` is from that of f (Moreau).
    d is the dual step size. A matrix K inside f belongs to f's prox. Reads out x.

    Converges: f and g convex, m = 1, s d <= 1; the gap falls like O(1/k), averaged over the steps.
    Network: two implicit blocks a layer; for m = 1 and d = 1/s the same as `DouglasRachford`.
    """

    references = ("chambolle2011", "moreau1965")

    step_size: Coefficient = 1.0
    dual_step_size: Coefficient = 1.0
    momentum: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return x, 0 * x, x

    def step(self, state: Any, prox_f: Any, prox_g: Any, k: int) -> Any:
        x, q, ahead = state
        s, d = self.step_size(k), self.dual_step_size(k)
        v = q + d * ahead
        q = v - d * prox_f(v / d, 1 / d)
        after = prox_g(x - s * q, s)
        return after, q, after + self.momentum(k) * (after - x)

    def read(self, state: Any) -> Any:
        return state[0]
