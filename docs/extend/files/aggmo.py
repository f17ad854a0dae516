"""Aggregated momentum."""

from typing import Any

from minimand import Algorithm, Coefficient


class AggregatedMomentum(Algorithm):
    """v_i = m_i v_i - grad(x);  x_next = x + s (v_1 + v_2) / 2   (Lucas et al. 2019, two velocities).

    Converges: as gradient descent with momentum does; the small m_1 damps the oscillations of the large m_2.
    Network: a ResNet with two velocities.
    """

    step_size: Coefficient = 1.0
    small: Coefficient = 0.0
    large: Coefficient = 0.9

    def start(self, x: Any) -> Any:
        return x, 0 * x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, v, w = state
        g = gradient(x)
        v, w = self.small(k) * v - g, self.large(k) * w - g
        return x + self.step_size(k) * (v + w) / 2, v, w

    def read(self, state: Any) -> Any:
        return state[0]
