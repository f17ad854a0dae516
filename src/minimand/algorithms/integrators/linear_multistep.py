from numbers import Real
from typing import Any

from ..._support.errors import MinimandError, WrongTypeError
from .._algorithm import Algorithm
from .._coefficient import Coefficient


class LinearMultistep(Algorithm):
    """rho(E) x = -s sigma(E) grad(x), E the shift: any explicit linear multistep method   (Dahlquist, 1956).

    x_next = -(rho_1 x + rho_2 x_previous + ...) - s (sigma_1 grad(x) + sigma_2 grad(x_previous) + ...), for
    rho = (1, rho_1, rho_2, ...) and sigma = (sigma_1, sigma_2, ...), from the highest power down. Before the
    start every state is x and every gradient 0.

    Converges: for x' = -grad(x), if consistent (rho(1) = 0, rho'(1) = sigma(1)) and zero-stable.
    Network: a linear multistep network (Lu et al. 2018).
    """

    references = ("dahlquist1956", "hairer1993", "lu2018beyond")

    step_size: Coefficient = 1.0
    rho: tuple[float, ...] = (1, -1)
    sigma: tuple[float, ...] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, numbers in (("rho", self.rho), ("sigma", self.sigma)):
            if not isinstance(numbers, tuple) or not all(isinstance(n, Real) for n in numbers):
                raise WrongTypeError(f"LinearMultistep.{name} is {numbers!r}; expected a tuple of numbers.")
        if len(self.rho) < 2 or self.rho[0] != 1:
            raise MinimandError(
                f"LinearMultistep.rho is {self.rho}; expected (1, rho_1, ...): divide both by the first."
            )
        if not 1 <= len(self.sigma) < len(self.rho):
            raise MinimandError(
                f"LinearMultistep.sigma is {self.sigma}; expected 1 to {len(self.rho) - 1} numbers for an explicit "
                f"method with rho = {self.rho}."
            )

    def start(self, x: Any) -> Any:
        return (x,) * (len(self.rho) - 1), (0 * x,) * (len(self.sigma) - 1)

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        points, answers = state
        answers = (gradient(points[0]), *answers)
        x_next = -sum(r * x for r, x in zip(self.rho[1:], points, strict=True))
        x_next = x_next - self.step_size(k) * sum(c * a for c, a in zip(self.sigma, answers, strict=True))
        return (x_next, *points[:-1]), answers[:-1]

    def read(self, state: Any) -> Any:
        return state[0][0]
