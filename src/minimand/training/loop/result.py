"""The result of a training: the model, its history and accuracies."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..._support.tables import table_html
from ...data.data import Data
from ...trainability.diagnosis.diagnose import TrainabilityReport
from ..methods.method import Method
from ..runs.run import Run
from .evaluate import Evaluation
from .profile import Profile
from .training import Training


@dataclass(frozen=True)
class FitResult:
    """A trained model and how it came to be."""

    model: nn.Module
    data: Data
    method: Method
    test_accuracy: float | None
    """The accuracy on the test samples, 0 to 1; None for a regression, or without test samples."""
    test_loss: float | None
    """The loss on the test samples; None where there are none."""
    history: list[dict[str, Any]]
    """One record of plain values for each epoch."""
    evaluation: Evaluation | None
    """How the model does on the test samples; None where there are none."""
    run: Run | None
    diagnosis: TrainabilityReport | None = None
    """The diagnosis of the model before its first step, if it was asked for."""
    ensemble: nn.Module | None = None
    """The average of all classifiers that were trained, as a module, where the method trains several."""
    ensemble_evaluation: Evaluation | None = None
    profile: Profile | None = None
    """Where the time went, if it was asked for."""

    def __repr__(self) -> str:
        return f"<{type(self.model).__name__} on {self.data.name}: {self}>"

    def _repr_html_(self) -> str:
        rows = [[name, f"{value:.4g}"] for name, value in self.history[-1].items() if isinstance(value, int | float)]
        return table_html(["last epoch", ""], [[name.replace("_", " "), value] for name, value in rows], note=str(self))

    def __str__(self) -> str:
        accuracy = "" if self.test_accuracy is None else f"test accuracy {100 * self.test_accuracy:.2f} %, "
        together = self.ensemble_evaluation and self.ensemble_evaluation.accuracy
        ensemble = "" if together is None else f" (all classifiers together: {100 * together:.2f} %)"
        loss = f"train loss {self.history[-1]['train_loss']:.4f}, no test samples,"
        if self.test_loss is not None:
            loss = f"test loss {self.test_loss:.4f}"
        return f"{accuracy}{loss} after {len(self.history)} epochs{ensemble}"


def result_of(training: Training) -> FitResult:
    """The result of a training that came to its end."""
    evaluation, ensemble, views = training.evaluation, training.plan.ensemble, training.recipe.test_views
    of_hooks = {name: value for hook in training.hooks.values() for name, value in hook.result().items()}
    return FitResult(
        training.model if training.compiled_model is None else training.compiled_model,
        training.whole_data,
        training.method,
        evaluation and evaluation.accuracy,
        evaluation and evaluation.loss,
        training.history,
        evaluation,
        training.run,
        ensemble=ensemble,
        ensemble_evaluation=training.evaluate(ensemble, training.test_samples, views) if ensemble else None,
        **of_hooks,
    )
