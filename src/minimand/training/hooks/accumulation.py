"""Gradient accumulation: the update of a large batch in the memory of a small one."""

from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ...data import Loader, each
from ..loop.losses import Loss, weight_of
from ..loop.training import Training
from .hook import HOOKS, Backward, Hook


@HOOKS.register("accumulation")
class AccumulationHook(Hook):
    """Fills the gradients of a batch part by part (`Recipe.accumulate`).

    A part counts by its share of the samples, or, of a class for each place, of the places that have one.
    Without batch statistics, random layers and losses that compare samples, weights are those of the large batch.
    """

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        accumulate = training.recipe.accumulate
        if accumulate == 1:
            return False
        if not training.method.accumulates:
            raise MinimandError(
                f"Recipe.accumulate is {accumulate}, but {type(training.method).__name__} needs all of a batch at "
                "once; expected 1."
            )
        if isinstance(training.data.train, Loader):
            raise MinimandError(
                f"Recipe.accumulate is {accumulate}, but the batches are those of a loader of your own; expected a "
                "loader of larger batches, or tensors or a data set, whose batches are made here."
            )
        if training.world.pipeline_stages > 1:
            raise MinimandError(
                f"Recipe.accumulate is {accumulate}, but modules on several ranks hand on whole batches; expected 1, "
                "or one process."
            )
        return True

    def around_backward(self, backward: Backward) -> Backward:
        training = self.training

        def part_by_part(model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
            # As many parts in every process: gradients are averaged in each backward pass.
            parts = min(training.recipe.accumulate, training.samples_of_step // training.world.batch_shares)
            whole = weight_of(y, isinstance(x, dict))
            value, outputs = y.new_zeros((), dtype=torch.float32), []
            for rows in torch.arange(len(y)).tensor_split(parts):
                part = slice(int(rows[0]), int(rows[-1]) + 1)
                share = weight_of(y[part], isinstance(x, dict)) / whole
                part_x = each(itemgetter(part), x)
                part_value, part_outputs = backward(model, part_x, y[part], _scaled(loss, share))
                value = value + part_value
                outputs.append(part_outputs)
            return value, torch.cat(outputs)

        return part_by_part


def _scaled(loss: Loss, share: float | Tensor) -> Loss:
    return lambda outputs, targets: share * loss(outputs, targets)
