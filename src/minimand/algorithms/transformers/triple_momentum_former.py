from typing import Any

from .._coefficient import Coefficient, Learnable
from .yurii_former import YuriiFormer


class TripleMomentumFormer(YuriiFormer):
    """v_next = N(m v - s grad(x + l v));  x_next = x + p v_next, N a normalization   (Wu et al. 2026).

    `YuriiFormer` with a factor p on what the velocity adds. With a weight in N it is the same class of networks: p v
    is a velocity with the weight p w, the momentum m / p and the look-ahead l / p.

    Converges: not known; N makes every step as long as the last one.
    Network: a transformer with momentum; the first velocity is a second embedding (`own`), 0 or the input.
    """

    references = ("wu2026momentum", "vanscoy2018tmm")

    progress: Coefficient = Learnable(1.0, 0.0, 4.0)
    """The factor p on the velocity in what a step adds."""

    def step(self, state: Any, gradient: Any, normalize: Any, k: int) -> Any:
        _, v = super().step(state, gradient, normalize, k)
        return state[0] + self.progress(k) * v, v
