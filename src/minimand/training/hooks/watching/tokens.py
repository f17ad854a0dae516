"""Tokens seen, and tokens a second, of a training on text."""

import time
from typing import Any

from torch import nn

from ...loop.training import Training
from ..hook import HOOKS, Hook


@HOOKS.register("tokens")
class TokensHook(Hook):
    """Counts the tokens that a language model learns from; the time of evaluations and checkpoints is left out."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.seen = self.since = 0
        self.seconds = self.began = 0.0

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.data.is_text

    def before_step(self, step: int, x: Any) -> None:
        self.began = time.monotonic()

    def after_step(self, value: float) -> None:
        tokens = self.training.samples_of_step * self.training.data.shape[0]
        self.seen += tokens
        self.since += tokens
        self.seconds += time.monotonic() - self.began

    def after_epoch(self, judged: nn.Module) -> dict[str, Any]:
        speed = self.since / max(self.seconds, 1e-9)
        self.since, self.seconds = 0, 0.0
        return {"tokens": self.seen, "tokens_per_second": round(speed)}

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]
