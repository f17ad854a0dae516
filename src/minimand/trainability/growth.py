"""How much squared signals and gradients grow over the depth of a network: sizes alone say nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from .statistics import LayerStat

LIMIT = math.log(1e3)
"""Of the logarithm of a growth, either way; beyond it no step size suits all layers."""

# A jump from one layer to the next is taken between means over at most so many layers on either side: a multiple of
# the two or three layers of usual blocks.
_WINDOW = 6


@dataclass(frozen=True)
class Growth:
    """The logarithm of the factor by which squared sizes change in the direction they travel."""

    what: str
    total: float = 0.0
    at: int | None = None
    """The layer, of all that ran, at which they jump; None for a steady change."""

    def __str__(self) -> str:
        return f"the squared {self.what} {'grows' if self.total > 0 else 'shrinks'} {times(self.total)}"


def growths(stats: Sequence[LayerStat]) -> tuple[Growth, Growth]:
    """Of the signal that arrives at the hidden layers, and of the gradient on its way back.

    The first layer is left out, as it takes whatever scale the data have, and for the gradient the last, as pooling
    stands before it.
    """
    order = range(1, len(stats))
    signal = _growth("signal", {i: stats[i].read_second_moment for i in order})
    return signal, _growth("gradient", {i: stats[i].read_gradient for i in reversed(order[:-1])})


def faded(stats: Sequence[LayerStat], i: int) -> float:
    """The logarithm of the growth of the gradient on its way back towards layer i, as far as it is above 0."""
    alive = [s.read_gradient for s in stats[i + 1 : -1] if s.read_gradient > 0]
    return math.log(alive[0] / alive[-1]) if alive else 0.0


def times(growth: float) -> str:
    """A factor in words: by 10^-18, or 2.4-fold."""
    return f"{math.exp(growth):.3g}-fold" if abs(growth) < LIMIT else f"by 10^{growth / math.log(10):.1f}"


def _growth(what: str, sizes: dict[int, float]) -> Growth:
    """By the slope of a line through all, so that what is special at the ends does not count, or by a larger jump."""
    points = [(step, i, math.log(v)) for step, (i, v) in enumerate(sizes.items()) if 0 < v < math.inf]
    if len(points) < 2:
        return Growth(what)
    logs = [log for *_, log in points]
    mean, middle = fmean(logs), fmean(step for step, *_ in points)
    slope = sum((s - middle) * (log - mean) for s, _, log in points) / sum((s - middle) ** 2 for s, *_ in points)
    found = Growth(what, slope * (points[-1][0] - points[0][0]))
    for j in range(2, len(logs) - 1):
        k = min(j, len(logs) - j, _WINDOW) // 2 * 2
        jump = fmean(logs[j : j + k]) - fmean(logs[j - k : j])
        if abs(jump) > abs(found.total):
            found = Growth(what, jump, points[j][1])
    return found
