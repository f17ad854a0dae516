from typing import Any

from ._algorithm import Algorithm
from ._coefficient import Coefficient


class GradientDescent(Algorithm):
    """x_next = x - s grad(x)   (Cauchy, 1847).

    Converges: f convex and L-smooth with 0 < s < 2/L; error O(1/k), or (1 - mu/L)^k if mu-strongly convex.
    Network: ResNet under the residual binding, a plain feedforward net under the operator binding
        (Li et al. 2018, section 3; Wu et al. 2024).
    """

    references = ("cauchy1847", "he2016resnet")

    step_size: Coefficient = 1.0

    def start(self, x: Any) -> Any:
        return (x,)

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        (x,) = state
        return (x - self.step_size(k) * gradient(x),)

    def read(self, state: Any) -> Any:
        return state[0]
