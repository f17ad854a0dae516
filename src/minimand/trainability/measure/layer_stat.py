"""What is known of each layer after one forward and one backward pass, and how sizes grow over the depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import nn

from .reading import NOT_MEASURED, Reading, is_nan, number, numbers
from .tracing import Trace

LIMIT = math.log(1e3)
"""The largest logarithm of a growth, either way, with which one step size suits all layers."""

# A jump from one layer to the next is taken between means over at most so many layers on either side; where there are
# skips, the largest of so many layers stands for them, as the layers of a branch see the scale of the branch.
_WINDOW = 6


@dataclass(frozen=True)
class LayerStat:
    """The measurements of one run of a layer. What could not be measured, or has no gradient, is a `Missing`.

    Gradients are of <v, x>, where x is what the last layer reads and v is drawn from N(0, I): no loss has a part in
    them. Second moments are means over all entries.
    """

    name: str
    call_index: int
    """The number of times that this layer ran before."""
    kind: str
    activation: str | None
    """The first activation that the output reaches."""
    shape: tuple[int, ...]
    """The shape of what the layer returned."""
    mean: Reading
    second_moment: Reading
    batch_std: Reading
    """The deviation over the samples, as a root mean square over units: 0 where all samples look alike."""
    cosine: Reading
    """The mean cosine over pairs of samples of the output."""
    nonfinite: Reading
    """The fraction of the output that is not finite."""
    zero: Reading
    """The fraction of zeros in what the next layer reads, after the activation."""
    dead: Reading
    """The fraction of units that are 0 for every sample in what the next layer reads."""
    saturated: Reading
    """The fraction within a hundredth of the ends of a bounded activation."""
    gradient: Reading
    """The second moment of the gradient of the output."""
    chi: Reading
    """The factor of the squared gradient from what the next layer reads to what this one reads."""
    loss_gradient: Reading
    """The second moment of the gradient of the output, that of the loss."""
    weight_gradient: Reading
    """The norm of the gradient over the parameters: of the loss where one was given."""
    update_ratio: Reading
    """The norm of the gradient of the parameters over the norm of the parameters."""
    read_second_moment: Reading
    """The second moment of what the layer reads: the signal that arrives."""
    read_cosine: Reading
    read_token_cosine: Reading
    """The mean cosine over pairs of tokens of one sample, of what the layer reads."""
    read_gradient: Reading
    """The squared norm per sample of the gradient of what the layer reads."""
    expected_second_moment: Reading = NOT_MEASURED
    """The second moment by mean-field theory, from the first layer on, where it applies."""
    expected_cosine: Reading = NOT_MEASURED
    expected_chi: Reading = NOT_MEASURED

    @property
    def blocked(self) -> bool:
        """Whether a gradient of the layer is exactly 0."""
        return 0.0 in (self.weight_gradient, self.gradient, self.read_gradient)

    @property
    def cut(self) -> bool:
        """Whether the signal of the layer passes on but its gradient is exactly 0."""
        return self.gradient == 0 and number(self.dead, 0.0) < 0.95

    @property
    def has_nan_gradient(self) -> bool:
        """Whether the gradient that comes back to the layer's output, or that of its parameters, is NaN."""
        return is_nan(self.gradient) or is_nan(self.weight_gradient)


@dataclass(frozen=True)
class Measured:
    """The measurements of a model, of which the layers are in the order they ran."""

    layers: tuple[LayerStat, ...]
    trace: Trace
    gradients: dict[nn.Parameter, float]
    """The squared norm of the gradient of each parameter that has one."""
    samples: int
    """The number of samples in the batch; 0 where no layer read a floating-point tensor."""
    lost: tuple[nn.Parameter, ...] = ()
    """The trainable parameters to which no path leads back from the output."""
    swallowed: tuple[nn.Parameter, ...] = ()
    """The trainable parameters that a path leads to, on which a function with a backward of its own gives nothing."""
    nan_function: str | None = None
    """The function of which the backward pass made a NaN of finite numbers first, by torch's name."""


@dataclass(frozen=True)
class Growth:
    """The logarithm of the factor by which squared sizes change in the direction they travel."""

    what: str
    total: float = 0.0
    at: int | None = None
    """The index, among all layers that ran, of the one at which sizes jump; None for a steady change."""

    def __str__(self) -> str:
        if abs(self.total) < 0.1:
            return f"the squared {self.what} keeps its size"
        return f"the squared {self.what} {'grows' if self.total > 0 else 'shrinks'} {times(abs(self.total))}"


def growths(stats: Sequence[LayerStat], plain: bool) -> tuple[Growth, Growth]:
    """The growth of the signal that arrives at the hidden layers, and of the gradient on its way back.

    The first layer is left out, as it takes whatever scale the data have, and for the gradient the last, as pooling
    stands before it. `plain` says that there are no skips.
    """
    order = range(1, len(stats))
    signal = {i: number(stats[i].read_second_moment, 0.0) for i in order}
    gradient = {i: number(stats[i].read_gradient, 0.0) for i in reversed(order[:-1])}
    return _growth("signal", signal, plain), _growth("gradient", gradient, plain)


def faded(stats: Sequence[LayerStat], i: int) -> float:
    """The logarithm of the growth of the gradient on its way back towards layer i, as far as it is above 0."""
    alive = [gradient for gradient in numbers(s.read_gradient for s in stats[i + 1 : -1]) if gradient > 0]
    return math.log(alive[0] / alive[-1]) if alive else 0.0


def times(growth: float) -> str:
    """A factor, given as its logarithm: 2.4-fold, or 10^18-fold."""
    return f"{math.exp(growth):.3g}-fold" if abs(growth) < LIMIT else f"10^{growth / math.log(10):.1f}-fold"


def _growth(what: str, sizes: dict[int, float], plain: bool) -> Growth:
    """The growth by the slope of a line through all sizes, which the ends hardly move, or by a jump."""
    points = [(step, i, math.log(v)) for step, (i, v) in enumerate(sizes.items()) if 0 < v < math.inf]
    logs = [log for *_, log in points]
    if not plain and logs:
        logs = [max(logs[j : j + _WINDOW]) for j in range(max(1, len(logs) - _WINDOW + 1))]
        points = points[: len(logs)]
    if len(points) < 2:
        return Growth(what)
    mean, middle = fmean(logs), fmean(step for step, *_ in points)
    variation = sum((step - middle) ** 2 for step, *_ in points)
    slope = sum((step - middle) * (log - mean) for (step, *_), log in zip(points, logs, strict=True)) / variation
    growth = Growth(what, slope * (points[-1][0] - points[0][0]))
    for j in range(2, len(logs) - 1 if plain else 0):
        k = min(j, len(logs) - j, _WINDOW) // 2 * 2
        jump = fmean(logs[j : j + k]) - fmean(logs[j - k : j])
        # Along a line the difference is at most half of the whole.
        if abs(jump) > (0.6 if growth.at is None else 1) * abs(growth.total):
            # A layer shows in the gradient of what it reads itself, and in the signal that the next one reads.
            growth = Growth(what, jump, points[j][1] - 1 if what == "signal" else points[j][1])
    return growth
