"""Paired differences over seeds: what they show, and what they cannot exclude.

Two arms that are trained from the same seeds share first weights and the order of samples, so their differences by seed
spread less than the arms do. Intervals and p values are Student's, for few seeds.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .._support.checks import check_number
from .._support.errors import MinimandError

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

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> "PairedDifference":
        """The difference of two arms, whose values are in the order of the same seeds.

        Raises:
            MinimandError: arms of different length, or fewer than two seeds, which have no interval.
        """
        if len(first) != len(second) or len(first) < 2:
            raise MinimandError(
                f"the arms have {len(first)} and {len(second)} seeds; expected the same ones in both, two at least."
            )
        return cls(tuple(a - b for a, b in zip(first, second, strict=True)))

    @property
    def mean(self) -> float:
        """The mean difference over seeds."""
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
        """The size beyond which the seeds exclude a difference, either way."""
        return max(map(abs, self.interval))

    def seeds_to_show(self, difference: float) -> int | None:
        """The number of seeds that would show a difference four times in five, at this spread; None beyond 10,000."""
        from scipy.stats import nct, t

        check_number("difference", difference, 0, math.inf)
        if not self.has_spread:
            return 2
        for seeds in range(2, _MOST_SEEDS):
            bound = float(t.ppf((1 + CONFIDENCE) / 2, seeds - 1))
            if float(nct.sf(bound, seeds - 1, math.sqrt(seeds) * difference / self.deviation)) >= _POWER:
                return seeds
        return None

    @property
    def _standard_error(self) -> float:
        return self.deviation / math.sqrt(len(self.differences))


def corrected(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The differences with p values by Holm's correction, so that one false alarm among all is as rare as one alone."""
    order = sorted(range(len(differences)), key=lambda i: differences[i].raw_p)
    result = list(differences)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(differences) - rank) * differences[i].raw_p))
        result[i] = PairedDifference(differences[i].differences, largest)
    return result
