"""The learning rate of each arm of a comparison, chosen by the same budget on held-out data."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from .._support.errors import MinimandError
from ..data.data import Data, hold_out
from ..recipes import Recipe
from ..training import Callback, FitResult, NonFiniteLossError
from .held_out import HELD_OUT, SEED
from .study import CallbacksByLabel


class Training(Protocol):
    """A function that trains a model from a seed on some data by a recipe, in the folder of a run."""

    def __call__(
        self, data: Data, recipe: Recipe, seed: int, callbacks: Sequence[Callback], run: Path
    ) -> FitResult: ...


def rates(recipe: Recipe, tries: int) -> list[float]:
    """The rates that are tried, a factor of two apart, the recipe's own in the middle, or just above it.

    Raises:
        MinimandError: fewer than two tries.
    """
    if tries < 2:
        raise MinimandError(f"tune is {tries}; expected 0, or at least 2 rates to choose among.")
    return [recipe.optimizer.lr * 2.0**k for k in range(-(tries // 2), tries - tries // 2)]


def tune(
    train: Training, data: Data, recipe: Recipe, tries: int, folder: Path, label: str, callbacks: CallbacksByLabel
) -> tuple[Recipe, dict[float, float | None]]:
    """The recipe with the best rate, and the held-out accuracy (or minus the loss) by rate; None where it diverged.

    Raises:
        MinimandError: every rate diverged, or there are too few samples to hold some out.
    """
    held_out = hold_out(data, HELD_OUT, SEED)
    scores: dict[float, float | None] = {}
    order: dict[float, tuple[float, float]] = {}
    for rate in rates(recipe, tries):
        at_rate = replace(recipe, optimizer=replace(recipe.optimizer, lr=rate))
        try:
            result = train(held_out, at_rate, SEED, callbacks(f"{label} rate {rate:.3g}"), folder / f"rate-{rate:.6g}")
        except NonFiniteLossError:
            scores[rate] = None
            continue
        assert result.test_loss is not None  # the held-out part has samples
        score = -result.test_loss if result.test_accuracy is None else result.test_accuracy
        scores[rate], order[rate] = score, (score, -result.test_loss)
    if not order:
        tried = ", ".join(f"{rate:.3g}" for rate in scores)
        raise MinimandError(f"{label} diverged at every rate, {tried}; expected a smaller learning rate to begin with.")
    best = max(order, key=lambda rate: order[rate])
    return replace(recipe, optimizer=replace(recipe.optimizer, lr=best)), scores


def at_the_edge(scores: dict[float, float | None]) -> bool:
    """Whether the best rate is the smallest or the largest that was tried, so that a better one may lie beyond."""
    best = max(scores, key=lambda rate: -math.inf if (score := scores[rate]) is None else score)
    return best in (min(scores), max(scores))
