from functools import cache
from numbers import Real
from typing import Any

from .._support.errors import MinimandError, WrongTypeError
from ._algorithm import Algorithm
from ._coefficient import Coefficient


class Chebyshev(Algorithm):
    """x_next = x - s s_k grad(x) + m_k (x - x_previous), the semi-iteration of Chebyshev's polynomials (Golub & Varga).

    With r = mu/L, c = (1 + r)/2, d = (1 - r)/2 and t(0) = 1/c, t(k) = 1/(2 c - d^2 t(k-1)): s_0 = t(0), s_k = 2 t(k)
    and m_k = d^2 t(k) t(k-1). As k grows they become those of `HeavyBall` with the best step and momentum.

    Converges: f quadratic, mu-strongly convex and L-smooth, s = 1/L; after N steps the error is at most 1/T_N(c/d) of
        the first, T_N the Chebyshev polynomial: the least of any first-order method, for every N.
    Network: HB-Net (Li et al. 2018, equation 11) with that schedule; with a known objective, Chebyshev steps, which
        unrolled gradient descent learns by itself (Wadayama & Takabe 2020).
    """

    references = ("golub1961chebyshev", "wadayama2020chebyshev")
    endless = True

    step_size: Coefficient = 1.0
    ratio: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.ratio, Real):
            raise WrongTypeError(f"Chebyshev.ratio is {self.ratio!r}; expected mu/L, a number above 0, at most 1.")
        if not 0 < self.ratio <= 1:
            raise MinimandError(f"Chebyshev.ratio is {self.ratio}; expected mu/L, above 0 and at most 1, such as 0.1.")

    def momentum(self, k: int) -> float:
        """m_k, from 0 up to the best momentum of heavy ball."""
        difference = (1 - self.ratio) / 2
        return difference**2 * _t(self.ratio, k) * _t(self.ratio, k - 1) if k else 0.0

    def scale(self, k: int) -> float:
        """s_k, the step size over 1/L."""
        return (2 if k else 1) * _t(self.ratio, k)

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous = state
        return x - self.step_size(k) * self.scale(k) * gradient(x) + self.momentum(k) * (x - previous), x

    def read(self, state: Any) -> Any:
        return state[0]


@cache
def _t(ratio: float, k: int) -> float:
    t = 2 / (1 + ratio)
    for _ in range(k):
        t = 1 / (1 + ratio - ((1 - ratio) / 2) ** 2 * t)
    return t
