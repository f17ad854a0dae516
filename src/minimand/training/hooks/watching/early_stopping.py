"""A validation part, and early stopping by it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from ...._support.errors import MinimandError
from ....data import Data, hold_out
from ...loop.events import Warned
from ...loop.training import Training
from ..hook import HOOKS, Hook
from .nonfinite import NonFiniteLossError


@HOOKS.register("early_stopping")
class EarlyStoppingHook(Hook):
    """Evaluates a validation part after each epoch: that of the data, else a share of the training samples.

    It stops problems that get no better, and keeps their best weights.
    """

    best: AveragedModel | None = None
    best_loss = math.inf
    epochs_since = 0

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        recipe, is_wanted = training.recipe, training.recipe.validation > 0 or training.data.validation is not None
        if recipe.early_stopping and not is_wanted:
            raise MinimandError(
                f"Recipe.early_stopping is {recipe.early_stopping}, but validation is 0 and the data "
                f"{training.data.name!r} have no validation part: there is nothing to judge by; expected a share of "
                "the training samples, such as validation=0.1."
            )
        return is_wanted

    def select_data(self, data: Data) -> Data:
        if data.validation is not None:  # data with a validation part of their own need no split
            self.validation = data.validation
            return data
        split = hold_out(data, self.training.recipe.validation, self.training.seed)
        self.validation = split.test
        return replace(data, train=split.train)

    def begin_problem(self, module: nn.Module) -> None:
        self.best = AveragedModel(module) if self.training.recipe.early_stopping else None
        self.best_loss, self.epochs_since = math.inf, 0

    def copies(self) -> Mapping[str, nn.Module]:
        return {} if self.best is None else {"best": self.best}

    def after_epoch(self, judged: nn.Module) -> dict[str, Any]:
        training = self.training
        evaluation = training.evaluate(judged, self.validation)
        assert evaluation is not None  # there are samples
        if not math.isfinite(evaluation.loss):
            raise NonFiniteLossError(f"the validation loss is {evaluation.loss} after step {training.step}.")
        if self.best is not None:
            if evaluation.loss < self.best_loss:
                self.best_loss, self.epochs_since = evaluation.loss, 0
                self.best.n_averaged.zero_()  # so that the next update is a copy
                self.best.update_parameters(judged)
            else:
                self.epochs_since += 1
            if self.epochs_since == training.recipe.early_stopping and not training.is_problem_done:
                training.tell(Warned(f"stopped early: {self.epochs_since} epochs without a lower validation loss."))
                training.finish_problem()
        return {"validation_loss": evaluation.loss, "validation_accuracy": evaluation.accuracy}

    def final(self, module: nn.Module) -> nn.Module:
        return module if self.best is None else self.best.module

    def state(self) -> dict[str, Any]:
        return {"best_loss": None if self.best_loss == math.inf else self.best_loss, "epochs_since": self.epochs_since}

    def load_state(self, state: dict[str, Any]) -> None:
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]
        self.epochs_since = state["epochs_since"]
