"""The keeper of a training: what goes into a run's folder, its configuration included, and comes back from it."""

import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import nn

from ..._support.clock import timed
from ..._support.errors import MinimandError
from ..._support.torch.environment import environment
from ...data import Data
from ...data.description import describe
from ...models.own import source_of
from ...networks import skeletons
from ...networks.fingerprint import model_fingerprint
from ...recipes.parameter_groups import factors_fingerprint
from ...recipes.recipe import Recipe, as_config
from ..hooks.watching.nonfinite import check_weights
from ..loop.evaluate import Evaluation
from ..loop.events import Saved, Warned
from ..loop.losses import Loss
from ..loop.training import Training
from ..methods.method import Method
from . import checkpoint, fingerprint
from .checkpoint import Checkpoint, CheckpointError
from .run import Run

_UNKNOWN = "unknown"  # stands for the fingerprint of data, or a loss, that have none


class EpochMeter:
    """Sums over the present epoch, which go on where they were after a checkpoint."""

    began: float
    """The time when this process began or went on with the epoch."""

    def reset(self) -> None:
        """Begin a new epoch: all sums are 0."""
        self.sums = torch.zeros(3, dtype=torch.double)
        """Loss times samples, right answers, samples."""
        self.seconds_before = 0.0
        """Seconds of this epoch before this process."""

    def count(self, loss: float, right: float, samples: int) -> None:
        """Add a batch: its mean loss, right answers and size."""
        self.sums += torch.tensor([loss * samples, right, samples], dtype=torch.double)

    @property
    def seconds(self) -> float:
        """The seconds of this epoch so far."""
        return self.seconds_before + time.monotonic() - self.began

    def averages(self) -> tuple[float, float]:
        """The mean loss and the share of right answers over the samples of this epoch."""
        loss, right, samples = self.sums.tolist()
        return loss / samples, right / samples


class Keeper:
    """Keeps a training in the folder of its run, if it has one, and takes up a run that was stopped."""

    random_state: tuple[dict[str, Any], dict[str, Any]]
    """The random state of the checkpoint that the training goes on from."""

    def __init__(self, training: Training, checkpoint_every: float) -> None:
        self.training, self.checkpoint_every = training, checkpoint_every
        self.meter = EpochMeter()
        self.saved_at = time.monotonic()
        if (run := training.run) is not None:
            whole, loss, stages = training.whole_data, training.loss_argument, training.world.pipeline_stages
            self.config = configuration(
                training.model, whole, training.method, training.recipe, loss, training.seed, training.device, stages
            )
            training.world.on_main(lambda: run.begin(self.config, environment(training.device), whole.text))

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint is due by the clock."""
        return time.monotonic() - self.saved_at >= self.checkpoint_every

    @timed("checkpoint")
    def log(self, record: dict[str, Any]) -> None:
        """Append the record of an epoch to the metrics, and save a checkpoint."""
        if self.training.run is not None:
            if self.training.world.is_main:
                self.training.run.log(record)
            self.save()

    @timed("checkpoint")
    def save(self) -> None:
        """Write a checkpoint, if there is a run."""
        training, run, saved = self.training, self.training.run, self.training.plan.saved
        if run is None:
            return
        check_weights(saved, training.step)
        sections, plain = training.world.pack(saved, training.optimizer, training.copies, training.device)
        state = {
            "step": training.step,
            "problem": training.number,
            "sums": self.meter.sums.tolist(),
            "seconds": self.meter.seconds,
            "history": training.history,
            "evaluation": None if training.evaluation is None else asdict(training.evaluation),
            "hooks": {name: hook.state() for name, hook in training.hooks.items()},
            "method": training.method.state(),
            **plain,
        }
        contents = Checkpoint(sections, state)
        path = training.world.on_main(lambda: run.save(contents, training.step))
        self.saved_at = time.monotonic()
        training.tell(Saved(path))

    @timed("checkpoint")
    def resume(self) -> None:
        """Begin the problem of the last checkpoint where it was, or the first problem if there is no checkpoint."""
        training, run = self.training, self.training.run
        last = None if run is None else self._last_checkpoint(run)
        training.method.load_state({} if last is None else last.state["method"])
        if run is None or last is None:
            training.begin_problem(0)
            return
        try:
            self._load(last, str(run.checkpoints))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, MinimandError):
                raise
            where = f"the checkpoint of step {last.state['step']} in {run.checkpoints}"
            raise CheckpointError(f"{where} is not one of this training ({type(error).__name__}: {error}).") from error

    def _load(self, last: Checkpoint, where: str) -> None:
        training, state = self.training, last.state
        checkpoint.load_weights(training.plan.saved, last.tensors["model"], where)
        training.step, training.history = state["step"], state["history"]
        training.begin_problem(bisect_left(training.ends, training.step))
        training.world.unpack(last, training.optimizer, training.copies)
        training.evaluation = state["evaluation"] and Evaluation(**state["evaluation"])
        for name, hook in training.hooks.items():
            hook.load_state(state["hooks"][name])
        self.meter.sums = torch.tensor(state["sums"], dtype=torch.double)
        self.meter.seconds_before = state["seconds"]
        self.random_state = last.tensors["random"], state["random"]

    def _last_checkpoint(self, run: Run) -> Checkpoint | None:
        """The checkpoint to go on from; what was logged after it is forgotten."""
        training = self.training
        last, problems = training.world.on_main(run.last_checkpoint)
        for problem in problems:
            training.tell(Warned(problem))
        history = [] if last is None else last.state["history"]
        training.world.on_main(lambda: run.rewind(history))
        for note in run.notes:
            training.tell(Warned(note))
        for name, value in self.config["fingerprints"].items() if last else ():
            if value == _UNKNOWN:
                training.tell(Warned(f"whether the {name} is what it was when the run began cannot be told."))
        return last


def configuration(
    model: nn.Module,
    data: Data,
    method: Method,
    recipe: Recipe | None,
    loss: str | Loss | None,
    seed: int,
    device: torch.device,
    pipeline_stages: int = 1,
) -> dict[str, Any]:
    """What decides the result of a run; `fingerprints` stand for the code and the tensors in it."""
    config = getattr(model, "config", None)
    own_loss = None if isinstance(loss, str | None) else loss
    prints = {"algorithm": model_fingerprint(model), "data": fingerprint.of_data(data)}
    prints["scaling of rates"] = factors_fingerprint(model)
    if not data.loaded and prints["data"] is None:
        prints["data"] = _UNKNOWN
    if own_loss is not None:
        prints["loss"] = fingerprint.of_loss(own_loss, data, device) or _UNKNOWN
    runs = [run for run in skeletons(model) if run.is_wired]
    wired = [f"{' '.join(run.names)}: {run.algorithm}" for run in runs]
    memory = [{"memory": run.source.memory, "exact": run.source.exact} for run in runs]
    return {
        "model": dict(config) if isinstance(config, Mapping) else _own_model(model),
        **({"rewired": wired} if wired else {}),
        **({"rewired_memory": memory} if any(choice["memory"] != "store" for choice in memory) else {}),
        "data": dict(data.loaded) or {"shape": list(data.shape), "train": len(data.train), "test": len(data.test)},
        "inputs": describe(data),
        "method": as_config(method),
        "recipe": as_config(recipe),
        "loss": loss if own_loss is None else _name(own_loss),
        "seed": seed,
        **({"ranks": pipeline_stages} if pipeline_stages > 1 else {}),
        "fingerprints": {name: value for name, value in prints.items() if value is not None},
    }


def _own_model(model: nn.Module) -> dict[str, str]:
    source = source_of(model)
    return {"class": type(model).__qualname__, **({} if source is None else {"source": source})}


def _name(function: Any) -> str:
    if isinstance(function, partial):
        return _name(function.func)
    return getattr(function, "__qualname__", type(function).__qualname__)
