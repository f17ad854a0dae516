"""Diagnosis while a model is trained: a run that cannot learn is stopped early."""

from collections import deque
from statistics import fmean
from typing import Any

from ..._support.errors import MinimandError
from ...trainability import TrainabilityReport, Verdict, diagnose
from ..loop.events import Warned
from ..loop.training import Training
from .hook import HOOKS, Hook

# Diagnoses are few and of few samples: they have to cost little beside the steps between them.
_STEPS, _SAMPLES = (0, 200, 400, 800), 32
# Losses averaged over so many steps have to fall to this share of the first ones for a model to be learning.
_AVERAGED, _LEARNING = 50, 0.95


class DoomedRunError(MinimandError, ArithmeticError):
    """Training was stopped: the network cannot train as it is, and has not. `verdict` says why and what repairs it."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict


@HOOKS.register("watch")
class Watch(Hook):
    """Diagnoses a model before its first step and, while its loss does not fall, early on: `fit(diagnose=True)`."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.first: TrainabilityReport | None = None
        self.beginning: list[float] = []
        self.latest: deque[float] = deque(maxlen=_AVERAGED)

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.diagnose

    def before_step(self, step: int, x: Any) -> None:
        if step not in _STEPS or (step and self.first is None):
            return  # a run that goes on from a checkpoint has come through this
        if step and fmean(self.latest) <= _LEARNING * fmean(self.beginning):
            return  # a loss that falls proves a verdict wrong
        report = diagnose(self.training.model, x[:_SAMPLES], theory=False)
        verdict = report.verdict
        if self.first is None:
            self.first = report
            if verdict.severity in ("warning", "fatal"):
                self.training.tell(Warned(f"before training the verdict is {verdict}"))
        elif verdict.severity == "fatal":
            raise DoomedRunError(
                f"stopped before step {step}, as the loss does not fall. The verdict is {verdict}", verdict
            )

    def after_step(self, value: float) -> None:
        if len(self.beginning) < _AVERAGED:
            self.beginning.append(value)
        self.latest.append(value)

    def result(self) -> dict[str, Any]:
        return {"diagnosis": self.first}
