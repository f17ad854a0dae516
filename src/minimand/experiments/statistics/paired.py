"""Paired differences over seeds: what they show, and what they cannot exclude.

Two arms that are trained from the same seeds share first weights and the order of samples, so their differences by seed
spread less than the arms do. Intervals and p values are Student's, for few seeds.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..._support.checks import check_number
from ..._support.errors import MinimandError

CONFIDENCE = 0.95
"""The share of intervals, over repeated experiments, that hold the true difference."""
_POWER = 0.8
_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class PairedDifference:
    """The mean difference of two arms over the same seeds, with its interval and p value."""

    differences: tuple[float, ...]
    """The first arm less the second, by seed."""
    corrected_p: float | None = None
    """The p value after Holm's correction for several comparisons; None where there is one."""
    tests: int = 1
    """The number of comparisons that the p value is corrected for."""

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> "PairedDifference":
        """The difference of two arms, whose values are in the order of the same seeds.

        Raises:
            MinimandError: arms of different length, fewer than two seeds, which have no interval, or a value that is
                NaN or infinite.
        """
        if len(first) != len(second) or len(first) < 2:
            raise MinimandError(
                f"the arms have {len(first)} and {len(second)} seeds; expected the same ones in both, two at least."
            )
        for i, value in enumerate([*first, *second]):
            if not math.isfinite(value):
                raise MinimandError(
                    f"an arm has {value} at seed {i % len(first)}; expected numbers, without the seeds that diverged."
                )
        return cls(tuple(a - b for a, b in zip(first, second, strict=True)))

    @property
    def mean(self) -> float:
        """The mean over seeds of the difference between the two arms."""
        return statistics.mean(self.differences)

    @property
    def deviation(self) -> float:
        """The standard deviation of the differences over seeds."""
        return statistics.stdev(self.differences)

    @property
    def has_spread(self) -> bool:
        """Whether the differences are not all the same, as accuracies of few samples by chance may be."""
        return self.deviation > 1e-9 * max(map(abs, self.differences))

    @property
    def interval(self) -> tuple[float, float]:
        """Student's interval of the mean difference, by `CONFIDENCE`; all numbers where there is no spread to tell."""
        from scipy.stats import t

        if not self.has_spread:
            return -math.inf, math.inf
        half = float(t.ppf((1 + CONFIDENCE) / 2, len(self.differences) - 1)) * self._standard_error
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """The p value of no difference, two-sided: corrected for several comparisons where there are some."""
        return self.raw_p if self.corrected_p is None else self.corrected_p

    @property
    def raw_p(self) -> float:
        """The p value of no difference by the paired t test, two-sided; by the sign test where there is no spread."""
        from scipy.stats import t

        if not self.has_spread:
            return 1.0 if self.mean == 0 else 2 * 0.5 ** len(self.differences)
        return 2 * float(t.sf(abs(self.mean) / self._standard_error, len(self.differences) - 1))

    @property
    def is_shown(self) -> bool:
        """Whether the seeds show a difference."""
        return self.p < 1 - CONFIDENCE

    @property
    def excluded_beyond(self) -> float:
        """The size beyond which the seeds exclude a difference: the smallest margin within which equality is shown."""
        from scipy.stats import t

        if not self.has_spread:
            return math.inf
        return abs(self.mean) + float(t.ppf(CONFIDENCE, len(self.differences) - 1)) * self._standard_error

    def equality_p(self, margin: float) -> float:
        """The p value of a difference of `margin` or more, either way, by two one-sided t tests.

        Where there is no spread to tell, by the sign test.
        """
        from scipy.stats import t

        inside = margin - abs(self.mean)
        if not self.has_spread:
            return 0.5 ** len(self.differences) if inside > 0 else 1.0
        return float(t.sf(inside / self._standard_error, len(self.differences) - 1))

    def seeds_to_show(self, difference: float) -> int | None:
        """The number of seeds that would show a difference four times in five, at this spread; None beyond 10,000."""
        from scipy.stats import nct, t

        check_number("difference", difference, 0, math.inf)
        if not self.has_spread:
            return 2

        def suffices(seeds: int) -> bool:
            bound = float(t.ppf(1 - (1 - CONFIDENCE) / 2 / self.tests, seeds - 1))
            return float(nct.sf(bound, seeds - 1, math.sqrt(seeds) * difference / self.deviation)) >= _POWER

        return _smallest(suffices)

    def seeds_to_exclude(self, margin: float) -> int | None:
        """The number of seeds that would show equality within a margin four times in five; None beyond 10,000.

        At this mean and spread, by two one-sided t tests that both have to reject.
        """
        from scipy.stats import nct, t

        check_number("margin", margin, 0, math.inf)
        if not self.has_spread or margin <= abs(self.mean):
            return None
        rooms = [(margin - side * abs(self.mean)) / self.deviation for side in (1, -1)]

        def suffices(seeds: int) -> bool:
            bound = float(t.ppf(CONFIDENCE, seeds - 1))
            power = [float(nct.sf(bound, seeds - 1, math.sqrt(seeds) * room)) for room in rooms]
            return sum(power) - 1 >= _POWER  # Bonferroni's bound on both

        return _smallest(suffices)

    @property
    def _standard_error(self) -> float:
        return self.deviation / math.sqrt(len(self.differences))


def interval_of(values: Sequence[float]) -> tuple[float, float]:
    """Student's interval of the mean of values, by `CONFIDENCE`; the value alone where there is one."""
    from scipy.stats import t

    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, mean
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def corrected(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The differences with p values by Holm's correction, so that one false alarm among all is as rare as one alone."""
    order = sorted(range(len(differences)), key=lambda i: differences[i].raw_p)
    result = list(differences)
    largest = 0.0
    for rank, i in enumerate(order):
        tests = len(differences) - rank
        largest = max(largest, min(1.0, tests * differences[i].raw_p))
        result[i] = PairedDifference(differences[i].differences, largest, tests)
    return result


def _smallest(suffices: Callable[[int], bool]) -> int | None:
    """The smallest number of seeds that suffices, of which all larger ones do; None beyond the most."""
    low, high = 1, 2  # a difference of one seed has no spread
    while not suffices(high):
        low, high = high, 2 * high
        if low >= _MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high
