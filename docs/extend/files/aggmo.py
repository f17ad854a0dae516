"""Aggregated momentum."""

from typing import Any

from minimand import Algorithm, Coefficient


class AggregatedMomentum(Algorithm):
    """v = m v - grad(x);  w = d w - grad(x);  x_next = x + s (v + w) / 2   (Lucas et al. 2019).

    Converges: as gradient descent with momentum does; the small momentum d damps the oscillations of the large one, m.
    Network: a ResNet with two velocities.
    """

    step_size: Coefficient = 1.0
    momentum: Coefficient = 0.9
    damping: Coefficient = 0.5

    def start(self, x: Any) -> Any:
        return x, 0 * x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, v, w = state
        g = gradient(x)
        v, w = self.momentum(k) * v - g, self.damping(k) * w - g
        return x + self.step_size(k) * (v + w) / 2, v, w

    def read(self, state: Any) -> Any:
        return state[0]
