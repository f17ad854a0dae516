"""The part of the training samples by which settings are chosen, and the seed of that, which nothing judged has."""

from collections.abc import Mapping
from typing import Any

from ...data.data import Data, hold_out

HELD_OUT = 0.2
"""The share of the training samples by which settings are chosen; the judged trainings use all of them."""
SEED = 1_000_003
"""The seed of tuning, of first weights and of the held-out part, which no judged training has."""
STAGE, TUNING = "stage", "tuning"
"""The setting of a cell by which settings are chosen, and its value; judged cells have no such setting."""


def judged_part(data: Data, cell: Mapping[str, Any]) -> Data:
    """The data of a cell: while its settings are tuned, a held-out part of the training samples is the test part."""
    return hold_out(data, HELD_OUT, SEED) if cell.get(STAGE) == TUNING else data
