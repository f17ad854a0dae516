"""The trainings of a comparison as tasks of a queue, and what each came to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..._support.torch.environment import environment
from ..._support.torch.seeds import seeded_apart
from ...algorithms import Algorithm
from ...data import Data
from ...models import UnrolledNetwork, model_for
from ...recipes import Recipe
from ...theory import Binding
from ...training import Callback, FitResult, NonFiniteLossError, fit
from ..study import CallbacksByLabel
from ..tasks.queue import Queue
from ..tasks.work import Record, Records, Work


@dataclass(frozen=True)
class Task:
    """A named model to be trained on some data, by whatever algorithm it is wired."""

    data: Data
    model: str
    binding: Binding | None
    recipe: Recipe
    device: torch.device

    def network(self, algorithm: Algorithm) -> UnrolledNetwork:
        """The model that an algorithm wires, with new weights."""
        return model_for(self.model, self.data, algorithm, self.binding)

    def train(
        self, algorithm: Algorithm, seed: int, callbacks: Sequence[Callback], run: Path | None = None
    ) -> FitResult:
        """Train the model that an algorithm wires; the seed decides its first weights and every random choice."""
        with seeded_apart(seed, torch.device("cpu")):
            model = self.network(algorithm)
        how: dict[str, Any] = {"recipe": self.recipe, "device": self.device, "callbacks": callbacks, "progress": False}
        return fit(model, self.data, run=run, seed=seed, **how)


@dataclass(frozen=True)
class ArmTraining:
    """A training of an arm of a comparison, with the folder of its run."""

    label: str
    task: Task
    algorithm: Algorithm
    seed: int
    folder: Path
    """The folder in which the comparison keeps its runs."""
    run: str
    """The folder of the run, in that of the comparison."""


@dataclass(frozen=True)
class Outcome:
    """The accuracy, the loss and the history that a training came to."""

    accuracy: float | None
    """The test accuracy at the end, 0 to 1; None for a regression."""
    loss: float | None
    """The test loss at the end; None where the loss became NaN or infinite before."""
    history: list[dict[str, Any]]
    """The records of all epochs of the training."""
    environment: dict[str, Any]
    """The machine and the versions that the training was made with."""


@dataclass(frozen=True)
class _Trainings(Work[ArmTraining]):
    """Trains the arms of a comparison."""

    on: torch.device

    @property
    def device(self) -> torch.device:
        return self.on

    def do(self, task: ArmTraining, callbacks: CallbacksByLabel) -> Record:
        try:
            result = task.task.train(task.algorithm, task.seed, callbacks(task.label), task.folder / task.run)
        except NonFiniteLossError:
            return asdict(Outcome(None, None, [], environment(self.on)))
        return asdict(Outcome(result.test_accuracy, result.test_loss, result.history, environment(self.on)))

    def key(self, task: ArmTraining) -> str:
        return task.run.replace("/", "-")

    def label(self, task: ArmTraining) -> str:
        return task.label


def train_all(
    queue: Queue,
    trainings: Sequence[ArmTraining],
    done: Callable[[Mapping[str, Outcome]], None] = lambda outcomes: None,
) -> dict[str, Outcome]:
    """What trainings came to by their runs; `done` is told all outcomes so far after each of them."""
    if not trainings:
        return {}
    first, outcomes = trainings[0], dict[str, Outcome]()

    def keep(training: ArmTraining, record: Record) -> None:
        outcomes[training.run] = Outcome(**record)
        done(outcomes)

    queue.run(_Trainings(first.task.device), trainings, Records(first.folder.absolute() / "outcomes"), keep)
    return outcomes


def together(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The machines and versions of several trainings as one: what differs is listed, of the dates the last is given."""
    listed = {key: dict.fromkeys(str(machine[key]) for machine in environments) for key in environments[0]}
    return {key: max(values) if key == "date" else ", ".join(values) for key, values in listed.items()}
