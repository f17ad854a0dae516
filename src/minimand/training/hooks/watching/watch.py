"""Diagnosis while a model is trained: a run that cannot learn is stopped early."""

from collections import deque
from operator import itemgetter
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from ...._support.errors import MinimandError
from ....data import each
from ....trainability import TrainabilityReport, Verdict, diagnose
from ...loop.events import Warned
from ...loop.losses import Loss
from ...loop.training import Training
from ..hook import HOOKS, Backward, Hook

# Diagnoses are few and of few samples: they have to cost little beside the steps between them.
_STEPS, _SAMPLES = (0, 200, 400, 800), 32
# Losses averaged over so many steps have to fall to this share of the first ones for a model to be learning.
_AVERAGED, _LEARNING = 50, 0.95
# So many steps before each look the loss is compared with that of the same outputs for every sample, of which it has
# to be this share at most.
_COMPARED, _TELLS_APART = 20, 0.98
# A loss that rises to so many times the first one has blown up.
_BLOWN_UP = 100.0


class DoomedRunError(MinimandError, ArithmeticError):
    """Training was stopped: the network cannot train as it is, and has not. `verdict` says why and what repairs it."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict


@HOOKS.register("watch")
class Watch(Hook):
    """Diagnoses a model before its first step and, while it does not learn, early on: `fit(diagnose=True)`."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.first: TrainabilityReport | None = None
        self.beginning: list[float] = []
        self.latest: deque[float] = deque(maxlen=_AVERAGED)
        self.compared: deque[Tensor] = deque(maxlen=_COMPARED)
        """The losses of the last steps before a look, each with that of the same outputs for every sample."""
        self.highest = 0.0

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.diagnose

    def before_step(self, step: int, x: Any) -> None:
        if step not in _STEPS or (step and self.first is None):
            return  # a run that goes on from a checkpoint was looked at before it stopped
        if step and self._learns():
            return  # a model that learns is not judged untrainable, whatever a diagnosis says
        report = diagnose(self.training.model, each(itemgetter(slice(_SAMPLES)), x), theory=False)
        verdict = report.verdict
        if self.first is None:
            self.first = report
            if verdict.severity in ("warning", "fatal"):
                self.training.tell(Warned(f"before training the verdict is {verdict}"))
        elif verdict.severity == "fatal":
            began = self.first.verdict
            before = "" if began.severity in ("none", "note") else f". Before training it was {began}"
            why = f"stopped before step {step}, as {self._why()}. The verdict is {verdict}{before}"
            raise DoomedRunError(why, verdict)
        elif self._blew_up:
            self.training.tell(Warned(f"after {step} steps {self._why()}. The verdict is {verdict}"))

    def around_backward(self, backward: Backward) -> Backward:
        def compared(module: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
            value, outputs = backward(module, x, y, loss)
            before_look = any(0 < look - self.training.step <= _COMPARED for look in _STEPS)
            if (
                before_look
                and self.first is not None
                and isinstance(outputs, Tensor)
                and outputs.ndim
                and len(outputs) > 1
            ):
                with torch.no_grad():
                    blind = loss(outputs.mean(0, keepdim=True).expand_as(outputs), y)
                    self.compared.append(torch.stack([value.detach().double(), blind.double()]))
            return value, outputs

        return compared

    def after_step(self, value: float) -> None:
        if len(self.beginning) < _AVERAGED:
            self.beginning.append(value)
        self.latest.append(value)
        had_blown_up = self._blew_up
        self.highest = max(self.highest, value)
        if self._blew_up and not had_blown_up:
            advice = "lower the learning rate, or standardize the inputs"
            self.training.tell(Warned(f"the loss rose from {self.beginning[0]:.3g} to {value:.3g}: {advice}"))

    def result(self) -> dict[str, Any]:
        return {"diagnosis": self.first}

    @property
    def _blew_up(self) -> bool:
        return bool(self.beginning) and self.highest > _BLOWN_UP * max(abs(self.beginning[0]), 1e-6)

    def _learns(self) -> bool:
        """Whether the loss has fallen, and is lower than if the outputs were the same for every sample."""
        return fmean(self.latest) <= _LEARNING * fmean(self.beginning) and self._tells_apart()

    def _tells_apart(self) -> bool:
        if not self.compared:
            return True
        value, blind = torch.stack(list(self.compared)).mean(0).tolist()
        return value <= _TELLS_APART * blind if blind > 0 else True

    def _why(self) -> str:
        """What is seen of the loss, for a message that goes on with the verdict."""
        if self._tells_apart():
            return "the loss does not fall"
        rose = f", after it rose to {self.highest:.3g}" if self._blew_up else ""
        return f"the loss, {fmean(self.latest):.3g}, is that of the same outputs for every sample{rose}"
