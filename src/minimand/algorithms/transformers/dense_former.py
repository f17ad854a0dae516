from typing import Any

from .._algorithm import Algorithm
from .._coefficient import Coefficient, Learnable


class DenseFormer(Algorithm):
    """X_(k+1) = y_k - grad(y_k);  y_(k+1) = X_(k+1) + sum over j of w_kj X_j, y_0 = X_0   (Pagliardini et al. 2024).

    The weights are what is added to the newest output, j <= k + 1: all 0 is gradient descent with step size 1.

    Converges: where the weights of each layer sum to 0 it rests where the gradient is 0; no more is known.
    Network: a transformer whose layers read a learned average of all earlier outputs (depth-weighted average).
        Memory grows with depth. Consistent where the weights of each layer sum to 0.
    """

    references = ("pagliardini2024denseformer",)

    weights: Coefficient = Learnable(0.0, -4.0, 4.0)
    """A table over (layer k, earlier output j)."""

    def shape(self, name: str, k: int) -> tuple[int, ...]:
        return (k + 2,)

    def start(self, x: Any) -> Any:
        return x, x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        y, *outputs = state
        outputs = [*outputs, y - gradient(y)]
        weights = self.table("weights", k)
        return outputs[-1] + sum(w * x for w, x in zip(weights, outputs, strict=True)), *outputs

    def read(self, state: Any) -> Any:
        return state[0]
