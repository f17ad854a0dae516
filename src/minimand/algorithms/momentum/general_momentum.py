from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient
from .._velocity import FirstVelocity, check_first_velocity, inputs_of, with_velocity


class GeneralMomentum(Algorithm):
    """d = x - x_previous;  x_next = x + m d - s grad(x + l d);  read-out x + r d.

    Momentum m, look-ahead l and read-out r are free: heavy ball is l = r = 0, Nesterov's method l = m and r = 0, and
    the triple momentum method one choice of all three (Lessard et al. 2016, Van Scoy et al. 2018).

    Converges: f mu-strongly convex and L-smooth, for the settings of its special cases; else where every pole of the
        linear system with grad(x) = q x lies in the unit disc for all mu <= q <= L, on quadratics.
    Network: momentum with a block that is asked ahead of the state, and a read-out ahead of it.
    """

    references = ("lessard2016iqc", "vanscoy2018tmm")

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.5
    lookahead: Coefficient = 0.5
    readout: Coefficient = 0.0
    """The read-out ahead of the state, one number: that of the first layer."""
    first_velocity: FirstVelocity = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_first_velocity("GeneralMomentum.first_velocity", self.first_velocity)

    @property
    def inputs(self) -> tuple[str, ...]:
        return inputs_of(self.first_velocity)

    def start(self, x: Any, velocity: Any = None) -> Any:
        x, velocity = with_velocity(self.first_velocity, x, velocity)
        return x, x - velocity

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        velocity = x - previous
        query = x + self.lookahead(k) * velocity
        return x + self.momentum(k) * velocity - self.step_size(k) * gradient(query), x

    def read(self, state: Any) -> Any:
        x, previous = state
        return x + self.readout(0) * (x - previous)
