from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient, Learnable
from .._velocity import FirstVelocity, check_first_velocity, inputs_of, with_velocity


class YuriiFormer(Algorithm):
    """v_next = N(m v - s grad(x + l v));  x_next = x + v_next, N a normalization   (Zimin et al. 2026).

    Nesterov's method where l = m, but for N: its answer has a fixed size, so a step has one too. Coefficients start
    as published, and are trained within bounds; there only m and l are bounded, by a sigmoid.

    Converges: not known; N makes every step as long as the last one.
    Network: a transformer with momentum; the first velocity is a second embedding (`own`), 0 or the input.
    """

    references = ("zimin2026yuriiformer",)

    step_size: Coefficient = Learnable(0.6931, 0.0, 4.0)
    momentum: Coefficient = Learnable(0.5, 0.0, 1.0)
    lookahead: Coefficient = Learnable(0.5, 0.0, 1.0)
    first_velocity: FirstVelocity = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_first_velocity("YuriiFormer.first_velocity", self.first_velocity)

    @property
    def inputs(self) -> tuple[str, ...]:
        return inputs_of(self.first_velocity)

    def start(self, x: Any, velocity: Any = None) -> Any:
        return with_velocity(self.first_velocity, x, velocity)

    def step(self, state: Any, gradient: Any, normalize: Any, k: int) -> Any:
        x, v = state
        query = x + self.lookahead(k) * v
        v = normalize(self.momentum(k) * v - self.step_size(k) * gradient(query))
        return x + v, v

    def read(self, state: Any) -> Any:
        return state[0]
