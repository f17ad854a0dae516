"""What a training gives."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ...data.data import Data
from ...trainability.diagnosis.diagnose import TrainabilityReport
from ..methods.method import Method
from ..runs.run import Run
from .evaluate import Evaluation


@dataclass(frozen=True)
class FitResult:
    """A trained model and how it came to be."""

    model: nn.Module
    data: Data
    method: Method
    test_accuracy: float | None
    """From 0 to 1; None for a regression."""
    test_loss: float
    history: list[dict[str, Any]]
    """One record an epoch."""
    evaluation: Evaluation
    run: Run | None
    diagnosis: TrainabilityReport | None = None
    """Of the model before its first step, if it was asked for."""
    ensemble: nn.Module | None = None
    """From a batch to the average of all classifiers that were trained, where the method trains several."""
    ensemble_evaluation: Evaluation | None = None

    def __str__(self) -> str:
        accuracy = "" if self.test_accuracy is None else f"test accuracy {100 * self.test_accuracy:.2f} %, "
        together = self.ensemble_evaluation and self.ensemble_evaluation.accuracy
        ensemble = "" if together is None else f" (all classifiers together: {100 * together:.2f} %)"
        return f"{accuracy}test loss {self.test_loss:.4f} after {len(self.history)} epochs{ensemble}"
