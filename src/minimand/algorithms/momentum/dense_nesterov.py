from itertools import accumulate
from operator import mul
from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient
from .._growing import check_cap, growing_momentum


class DenseNesterov(Algorithm):
    """y_next = y - s sum_j h(k, j) grad(y_j), with h from b_k = min(b(k), cap)   (Li et al. 2018, equations 4-5).

    h(k, k) = 1 + b_{k+1} and h(k, j) = b_{k+1} b_k ... b_{j+1} for j < k: Nesterov's method with its history
    written out, b(k) as in `Fista`.

    Converges: as `Fista`.
    Network: AGD-Net with dense sums (Li et al. 2018, equation 13, the operator binding); DenseNet, where the
        weights are learned. Up to its read-out the same network as `Fista`; its memory grows with depth.
    """

    references = ("nesterov1983", "li2018optimization", "huang2017densenet")

    endless = True

    step_size: Coefficient = 1.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cap("DenseNesterov.cap", self.cap)

    def weights(self, k: int) -> list[float]:
        """h(k, j) of the answers of all steps j up to k, in step k."""
        momenta = [min(growing_momentum(i + 1), self.cap) for i in reversed(range(k + 1))]
        products = list(accumulate(momenta, mul))
        return [*reversed(products[1:]), 1 + products[0]]

    def start(self, x: Any) -> Any:
        return (x,)

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        y, *answers = state
        answers = [*answers, gradient(y)]
        return y - self.step_size(k) * sum(h * a for h, a in zip(self.weights(k), answers, strict=True)), *answers

    def read(self, state: Any) -> Any:
        return state[0]
