from typing import Any

from ..._support.errors import MinimandError
from .._algorithm import Algorithm
from .._coefficient import Coefficient, Constant, Learnable, each_entry
from .._streams import averaged, check_share, combined, combined_by_rows


class HyperConnections(Algorithm):
    """q = r' X;  X_next = M X - w grad(q), X of n streams, read out as their mean   (Zhu et al. 2025, static).

    Matrix M = 1 + `mixing`, weights w = 1 + `writing`, and r = `reading` more than 1 for stream k mod n in step k. With
    `doubly_stochastic` M is a product of averages of two streams, (1 - t) X_i + t X_j, with the shares t = `mixing` in
    [0, 1] in the order of the pairs, so rows and columns sum to 1 (hyper-connections constrained to such matrices,
    Xie et al. 2025, reach them by Sinkhorn's iteration, which is no step of a linear method), and r sums to 1.

    Converges: at the start it is gradient descent with step size 1; two streams are momentum with damping.
    Network: several residual streams of which each block reads a combination. Consistent where the rows of M and r
        sum to 1; every gain is equal where the columns of M do too.
    """

    references = ("zhu2025hyperconnections", "xie2025mhc")

    mixing: Coefficient = Learnable(0.0, -4.0, 4.0)
    writing: Coefficient = Learnable(0.0, -4.0, 4.0)
    reading: Coefficient = Learnable(0.0, -4.0, 4.0)
    streams: int = 4
    doubly_stochastic: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.streams, int) or isinstance(self.streams, bool) or self.streams < 2:
            raise MinimandError(f"HyperConnections.streams is {self.streams!r}; expected an integer of at least 2.")
        super().__post_init__()
        shares = self.mixing
        if self.doubly_stochastic and isinstance(shares, Learnable) and not 0 <= shares.low <= shares.high <= 1:
            start = min(max(shares.initial, 0.0), 1.0)
            object.__setattr__(self, "mixing", Learnable(start, 0.0, 1.0))  # shares of averages
        elif self.doubly_stochastic and isinstance(shares, Constant):
            each_entry(lambda share: check_share("HyperConnections.mixing", share), shares.value)

    def shape(self, name: str, k: int) -> tuple[int, ...]:
        n = self.streams
        if name != "mixing":
            return (n,)
        return (n * (n - 1) // 2,) if self.doubly_stochastic else (n, n)

    def start(self, x: Any) -> Any:
        return (x,) * self.streams

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        reading, writing, mixing = (self.table(name, k) for name in ("reading", "writing", "mixing"))
        if self.doubly_stochastic:
            reading = *reading[:-1], -sum(reading[:-1])
        answer = gradient(state[k % self.streams] + combined(reading, state))
        mixed = averaged(mixing, state) if self.doubly_stochastic else combined_by_rows(mixing, state)
        return tuple(x - (1 + w) * answer for w, x in zip(writing, mixed, strict=True))

    def read(self, state: Any) -> Any:
        return sum(state[1:], start=state[0]) / self.streams
