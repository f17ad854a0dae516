"""Combinations of several streams by weights and matrices, each a table of a coefficient."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from .._support.errors import MinimandError


def combined(weights: Sequence[Any], streams: Sequence[Any]) -> Any:
    """The sum of streams times their weights."""
    return sum(w * x for w, x in zip(weights, streams, strict=True))


def combined_by_rows(matrix: Sequence[Sequence[Any]], streams: Sequence[Any]) -> list[Any]:
    """Each stream, and added to it the combination of all by its row of a matrix."""
    return [x + combined(row, streams) for x, row in zip(streams, matrix, strict=True)]


def averaged(shares: Sequence[Any], streams: Sequence[Any]) -> list[Any]:
    """The streams after an average of each pair: x_i and x_j move a share t of the way to one another.

    In the order of the pairs (0, 1), (0, 2) ...; a product of such averages is a doubly stochastic matrix.
    """
    mixed = list(streams)
    for t, (i, j) in zip(shares, combinations(range(len(mixed)), 2), strict=True):
        mixed[i], mixed[j] = mixed[i] + t * (mixed[j] - mixed[i]), mixed[j] + t * (mixed[i] - mixed[j])
    return mixed


def check_share(name: str, share: float) -> None:
    """Raise MinimandError unless the number is a share of an average."""
    if not 0 <= share <= 1:
        raise MinimandError(f"{name} is {share:g}, the share of an average of two streams; expected 0 to 1.")
