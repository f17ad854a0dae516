"""The algorithm that a search found, by name path/to/found.py:Found."""

from typing import Any

import minimand as mm


class Found(mm.Algorithm):
    """x_next = x + 0.9 (x - x_previous) - 0.63 grad(x) - 0.67 grad(x_previous).

    Found by `minimand search` on digits with mlp, 15 epochs: validation loss 0.1250, the lowest of 60 trials,
    against 0.1451 of gradient descent (seed 1000, 2026-11-24).

    Converges: nothing is known of it as a minimizer. Zero-stable, and of order 1 for x' = -grad(x) (after time is
    rescaled by 13).

    Network: a linear multistep network; over 8 layers its kernel is at the L1 distance 55.02 from
    OptimizedGradient(step_size=1.0), 60.39 from HeavyBall(step_size=1.0, momentum=0.5), 61.38 from
    Nesterov(step_size=1.0, momentum=0.5).
    """

    momentum: mm.Coefficient = 0.9
    step_size: mm.Coefficient = 0.63
    step_size_previous: mm.Coefficient = 0.67

    def start(self, x: Any) -> Any:
        return x, x, 0 * x

    def step(self, state: Any, gradient: Any, k: int) -> Any:
        x, previous, previous_answer = state
        answer = gradient(x)
        x_next = (
            x
            + self.momentum(k) * (x - previous)
            - self.step_size(k) * answer
            - self.step_size_previous(k) * previous_answer
        )
        return x_next, x, answer

    def read(self, state: Any) -> Any:
        return state[0]
