"""What a run tells its callbacks, which are plain functions of one event."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on after a checkpoint."""

    steps: int
    """The number of steps in the whole run."""
    done: int
    """The number of steps made before this start."""
    epochs: int


@dataclass(frozen=True)
class StepDone:
    """An update was made: a step of training."""

    step: int
    epoch: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch ended; `metrics` is its line of the history."""

    epoch: int
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Saved:
    """The event that a checkpoint was written, to `path`."""

    path: Path


@dataclass(frozen=True)
class Warned:
    """Something a person should know, that did not stop the run."""

    message: str


@dataclass(frozen=True)
class Finished:
    """Training ended; `metrics` is the last line of the history."""

    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stopped:
    """Training ended before its end: an interrupt, or an error that is about to be raised."""

    error: BaseException


Event = Started | StepDone | EpochDone | Saved | Warned | Finished | Stopped
Callback = Callable[[Event], None]
