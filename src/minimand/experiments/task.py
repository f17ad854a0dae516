"""One training that experiments make with many algorithms: the same model, data, recipe and device."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..algorithms import Algorithm
from ..data import Data
from ..models import UnrolledNetwork, create_for
from ..recipes import Recipe
from ..theory import Binding
from ..training import Callback, FitResult, fit


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
        return create_for(self.model, self.data.shape, self.data.num_outputs, algorithm, self.binding)

    def train(
        self, algorithm: Algorithm, seed: int, callbacks: Sequence[Callback], run: Path | None = None
    ) -> FitResult:
        """Train the model that an algorithm wires; the seed decides its first weights and every random choice."""
        torch.manual_seed(seed)
        return fit(
            self.network(algorithm),
            self.data,
            recipe=self.recipe,
            run=run,
            seed=seed,
            device=self.device,
            callbacks=callbacks,
        )
