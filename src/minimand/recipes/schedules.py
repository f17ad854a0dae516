"""Schedules of a recipe: what the learning rate is multiplied by, from the beginning of training to its end."""

import math
from dataclasses import dataclass

from .._support.checks import check_number
from .._support.errors import WrongTypeError
from .._support.names.calls import make_named


@dataclass(frozen=True)
class Cosine:
    """The learning rate falls along half a cosine, after a linear warm-up over a fraction of training.

    The warm-up begins at a tenth: at 0 the first steps would change nothing.
    """

    warmup: float = 0.0
    """The fraction of training in which the rate rises."""
    floor: float = 0.0
    """The last rate, as a fraction of the highest."""

    def __post_init__(self) -> None:
        check_number("Cosine.warmup", self.warmup, 0, 1, below=True)
        check_number("Cosine.floor", self.floor, 0, 1)

    def factor(self, progress: float) -> float:
        """The factor on the learning rate when a fraction `progress`, 0 to 1, of training is done."""
        if progress < self.warmup:
            return 0.1 + 0.9 * progress / self.warmup
        fall = (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2
        return self.floor + (1 - self.floor) * fall


@dataclass(frozen=True)
class OneCycle:
    """The learning rate rises linearly over the first part of training and falls linearly, to 0 (Smith, 2018)."""

    rise: float = 0.25
    """The fraction of training in which the rate rises."""
    start: float = 0.1
    """The first rate, as a fraction of the highest."""
    end: float = 0.0
    """The last rate, as a fraction of the highest."""

    def __post_init__(self) -> None:
        check_number("OneCycle.rise", self.rise, 0, 1, below=True)
        check_number("OneCycle.start", self.start, 0, 1)
        check_number("OneCycle.end", self.end, 0, 1)

    def factor(self, progress: float) -> float:
        """The factor on the learning rate when a fraction `progress`, 0 to 1, of training is done."""
        if progress < self.rise:
            return self.start + (1 - self.start) * progress / self.rise
        return self.end + (1 - self.end) * (1 - progress) / (1 - self.rise)


@dataclass(frozen=True)
class StepDecay:
    """The learning rate is multiplied by `by` at each of some fractions of training."""

    at: tuple[float, ...] = (0.5, 0.75)
    """The fractions of training, 0 to 1."""
    by: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.at, tuple | list):
            raise WrongTypeError(f"StepDecay.at is {self.at!r}; expected fractions of training, such as (0.5, 0.75).")
        for i, milestone in enumerate(self.at):
            check_number(f"StepDecay.at[{i}]", milestone, 0, 1)
        check_number("StepDecay.by", self.by, 0, 1)

    def factor(self, progress: float) -> float:
        """The factor on the learning rate when a fraction `progress`, 0 to 1, of training is done."""
        return self.by ** sum(progress >= milestone for milestone in self.at)


Schedule = OneCycle | Cosine | StepDecay
"""Any of the schedules of a recipe."""

SCHEDULES: dict[str, type[Schedule]] = {"one_cycle": OneCycle, "cosine": Cosine, "step_decay": StepDecay}
"""The schedules of a recipe by name."""


def make_schedule(text: str) -> Schedule:
    """The schedule of a text such as "cosine(warmup=0.1)"; raises MinimandError that names the nearest."""
    return make_named(text, "schedule", SCHEDULES)
