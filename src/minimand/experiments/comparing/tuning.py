"""The learning rate, and the momentum, of each arm of a comparison, chosen by the same budget on held-out data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..._support.errors import MinimandError
from ...recipes import SGD, Recipe
from ...recipes.optimizers import Muon
from .outcomes import Outcome

_WITH_MOMENTUM = 9
"""The number of trials from which momentum is tuned too: three rates for each of three momenta."""


@dataclass(frozen=True)
class Tried:
    """A learning rate, and the momentum where it is tuned, with what came of it on held-out data."""

    rate: float
    momentum: float | None = None
    score: float | None = None
    """The accuracy, or minus the loss; None where the training diverged, or is still to come."""

    def __str__(self) -> str:
        return f"rate {self.rate:.3g}" + ("" if self.momentum is None else f", momentum {self.momentum:.3g}")

    @property
    def file_name(self) -> str:
        """The name of the folder of the run with this rate and momentum."""
        return f"rate-{self.rate:.6g}" + ("" if self.momentum is None else f"-momentum-{self.momentum:.6g}")

    def applied(self, recipe: Recipe) -> Recipe:
        """A recipe with this rate and momentum."""
        changes: dict[str, Any] = {"lr": self.rate} | ({} if self.momentum is None else {"momentum": self.momentum})
        return replace(recipe, optimizer=replace(recipe.optimizer, **changes))


def trials(recipe: Recipe, tries: int) -> list[Tried]:
    """What is tried: rates a factor of two apart, the recipe's own in the middle, or just above it.

    From nine trials on, where the optimizer has a momentum m, a third of them each with the memory 1 / (1 - m) halved,
    as it is, and doubled; rates of SGD are those at which its steps become as long.

    Raises:
        MinimandError: fewer than two tries.
    """
    if isinstance(tries, bool) or not isinstance(tries, int) or tries < 2:
        raise MinimandError(f"tune is {tries!r}; expected 0, or at least 2 rates to choose among.")
    optimizer = recipe.optimizer
    if tries < _WITH_MOMENTUM or not isinstance(optimizer, SGD | Muon) or not optimizer.momentum:
        return [Tried(rate) for rate in _rates(optimizer.lr, tries)]
    tried = []
    for factor, count in ((2.0, tries // 3), (1.0, tries - 2 * (tries // 3)), (0.5, tries // 3)):
        momentum = round(max(0.0, 1 - factor * (1 - optimizer.momentum)), 6)
        longer = (1 - momentum) / (1 - optimizer.momentum) if isinstance(optimizer, SGD) else 1.0
        tried += [Tried(rate, momentum) for rate in _rates(optimizer.lr * longer, count)]
    return tried


def _rates(middle: float, count: int) -> list[float]:
    return [middle * 2.0**k for k in range(-(count // 2), count - count // 2)]


def best_of(label: str, tried: Sequence[Tried], outcomes: Sequence[Outcome]) -> tuple[Tried, list[Tried]]:
    """The best of what was tried for an arm, and all of it with its scores on held-out data.

    Raises:
        MinimandError: every trial diverged.
    """
    scored: list[Tried] = []
    order: dict[Tried, tuple[float, float]] = {}
    for trial, outcome in zip(tried, outcomes, strict=True):
        if outcome.loss is None:
            scored.append(trial)
            continue
        score = -outcome.loss if outcome.accuracy is None else outcome.accuracy
        scored.append(replace(trial, score=score))
        order[scored[-1]] = score, -outcome.loss
    if not order:
        listed = "; ".join(map(str, scored))
        raise MinimandError(
            f"{label} diverged at every trial, {listed}; expected a smaller learning rate to begin with."
        )
    return max(order, key=lambda trial: order[trial]), scored


def at_the_edge(best: Tried, scored: Sequence[Tried]) -> bool:
    """Whether the best rate is the smallest or the largest that was tried at its momentum: a better may lie beyond."""
    rates = [tried.rate for tried in scored if tried.momentum == best.momentum]
    return best.rate in (min(rates), max(rates))
