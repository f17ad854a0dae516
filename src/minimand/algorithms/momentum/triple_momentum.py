from numbers import Real
from typing import Any

from ..._support.errors import MinimandError, WrongTypeError
from .._algorithm import Algorithm
from .._coefficient import Coefficient


class TripleMomentum(Algorithm):
    """x_next = (1 + b) x - b x_previous - (1 + r) s grad((1 + g) x - g x_previous)   (Van Scoy et al. 2018).

    b = r^2 / (2 - r), g = r^2 / ((1 + r)(2 - r)) from the rate r; reads out (1 + d) x - d x_previous,
    d = r^2 / (1 - r^2).

    Converges: f mu-strongly convex and L-smooth, s = 1/L, r = 1 - sqrt(mu/L): |x_k - x*| shrinks like r^k, the
        fastest rate known of a method with constant coefficients.
    Network: heavy ball that asks its block ahead of the state, as Nesterov's does, and reads out further ahead.
    """

    references = ("vanscoy2018tmm",)

    step_size: Coefficient = 1.0
    rate: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.rate, Real):
            raise WrongTypeError(f"TripleMomentum.rate is {self.rate!r}; expected a number in [0, 1), 1 - sqrt(mu/L).")
        if not 0 <= self.rate < 1:
            raise MinimandError(
                f"TripleMomentum.rate is {self.rate}, outside [0, 1); expected 1 - sqrt(mu/L). "
                f"The nearest value that works is {0 if self.rate < 0 else 0.99}."
            )

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        r = self.rate
        velocity = x - previous
        query = x + r**2 / ((1 + r) * (2 - r)) * velocity
        return x + r**2 / (2 - r) * velocity - (1 + r) * self.step_size(k) * gradient(query), x

    def read(self, state: Any) -> Any:
        x, previous = state
        return x + self.rate**2 / (1 - self.rate**2) * (x - previous)
