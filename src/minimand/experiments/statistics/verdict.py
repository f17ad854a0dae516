"""What paired differences say of a claim: the words that comparisons, studies and reports have in common."""

from collections.abc import Callable
from typing import Literal

from .paired import CONFIDENCE, PairedDifference

Expected = Literal["higher", "lower", "different", "equal"]
"""How a claim says that an arm is beside its baseline; `equal` is within the margin."""
CONFIRMED, CONTRADICTED, NOT_SEEN, UNDECIDED = "confirmed", "contradicted", "not seen", "undecided at this size"
LEVEL = 1 - CONFIDENCE
"""The chance of a false alarm of each test."""


def verdict(
    difference: PairedDifference, expected: Expected, margin: float | None, size: Callable[[float], str]
) -> str:
    """The verdict on a claim of the difference of two arms; `size` writes a difference with its unit.

    A difference is shown by p after Holm's correction; equality within the margin by two one-sided tests.
    """
    is_equal = margin is not None and difference.equality_p(margin) < LEVEL
    if expected == "equal":
        if is_equal:
            return CONFIRMED
        # Where there is no spread, the sign test that shows the difference shows all of its size.
        nearest = min(map(abs, difference.interval)) if difference.has_spread else abs(difference.mean)
        beyond = margin is not None and nearest > margin
        return CONTRADICTED if difference.is_shown and beyond else _undecided(difference, margin, to_be_equal=True)
    if difference.is_shown:
        signs = {"higher": difference.mean > 0, "lower": difference.mean < 0, "different": True}
        return CONFIRMED if signs[expected] else CONTRADICTED
    if is_equal and margin is not None:
        return f"{NOT_SEEN} (difference beyond {size(min(margin, difference.excluded_beyond))} excluded)"
    return _undecided(difference, margin, to_be_equal=False)


def _undecided(difference: PairedDifference, margin: float | None, to_be_equal: bool) -> str:
    if not difference.has_spread:
        same = "the same difference at every seed" if difference.mean else "no difference at any seed"
        return f"{UNDECIDED} ({same}, too few to tell)"
    if not to_be_equal and not difference.mean:
        return f"{UNDECIDED} (the difference measured is 0)"
    if not to_be_equal:
        needed = difference.seeds_to_show(abs(difference.mean))
    elif margin is None or abs(difference.mean) >= margin:
        return f"{UNDECIDED} (the difference measured is not within the margin)"
    else:
        needed = difference.seeds_to_exclude(margin)
    seeds = "more than 10,000" if needed is None else f"{max(needed, len(difference.differences) + 1):,}"
    return f"{UNDECIDED} ({seeds} seeds would show {'equality' if to_be_equal else 'the difference measured'})"
