"""The keeper of a training: what goes into a run's folder, and comes back from it."""

import time
from bisect import bisect_left
from dataclasses import asdict
from typing import Any

import torch

from ..._support.environment import environment
from ..hooks.nonfinite import check_weights
from ..loop.evaluate import Evaluation
from ..loop.events import Saved, Warned
from ..loop.meter import EpochMeter
from ..loop.training import Training
from . import checkpoint
from .checkpoint import Checkpoint
from .configuration import configuration, unchecked
from .run import Run


class Keeper:
    """Keeps a training in the folder of its run, if it has one, and takes up a run that was stopped."""

    random_state: tuple[dict[str, Any], dict[str, Any]]
    """The random state of the checkpoint that the training goes on from."""

    def __init__(self, training: Training, checkpoint_every: float) -> None:
        self.training, self.checkpoint_every = training, checkpoint_every
        self.meter = EpochMeter()
        self.saved_at = time.monotonic()
        if (run := training.run) is not None:
            self.config = configuration(
                training.model,
                training.whole_data,
                training.method,
                training.recipe,
                training.loss_argument,
                training.seed,
                training.device,
                training.world.pipeline_stages,
            )
            training.world.on_main(lambda: run.begin(self.config, environment(training.device)))

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint is due by the clock."""
        return time.monotonic() - self.saved_at >= self.checkpoint_every

    def log(self, record: dict[str, Any]) -> None:
        """Append the record of an epoch to the metrics, and save a checkpoint."""
        if self.training.run is not None:
            if self.training.world.is_main:
                self.training.run.log(record)
            self.save()

    def save(self) -> None:
        """Write a checkpoint, if there is a run."""
        training, run = self.training, self.training.run
        if run is None:
            return
        check_weights(training.plan.saved, training.step)
        sections, plain = training.world.pack(training.plan.saved, training.optimizer, training.copies, training.device)
        state = {
            "step": training.step,
            "sums": self.meter.sums.tolist(),
            "seconds": self.meter.seconds,
            "metrics": run.position(),
            "history": training.history,
            "evaluation": None if training.evaluation is None else asdict(training.evaluation),
            "hooks": {name: hook.state() for name, hook in training.hooks.items()},
            **plain,
        }
        contents = Checkpoint(sections, state)
        path = training.world.on_main(lambda: checkpoint.save(contents, run.checkpoints, training.step))
        self.saved_at = time.monotonic()
        training.tell(Saved(path))

    def resume(self) -> None:
        """Begin the problem of the last checkpoint where it was, or the first problem if there is no checkpoint."""
        training = self.training
        run = training.run
        last = None if run is None else self._last_checkpoint(run)
        if run is None or last is None:
            training.begin_problem(0)
            return
        state = last.state
        checkpoint.load_weights(training.plan.saved, last.tensors["model"], str(run.checkpoints))
        training.begin_problem(bisect_left(training.ends, state["step"]))
        training.world.unpack(last, training.optimizer, training.copies)
        training.step, training.history = state["step"], state["history"]
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
            training.tell(Warned(f"{problem} The one before it is used."))
        if training.world.is_main:
            run.rewind(0 if last is None else last.state["metrics"])
        for name in unchecked(self.config) if last else ():
            training.tell(Warned(f"whether the {name} is what it was when the run began cannot be told."))
        return last
