"""Lookahead: weights that are set back to an average of them every few steps."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from ..loop.training import Training
from .hook import HOOKS, Hook

_EVERY = 5


@HOOKS.register("lookahead")
class LookaheadHook(Hook):
    """Sets the weights and statistics to a moving average of them every five steps, and at the end.

    The decay of a step grows from 0 to `Recipe.lookahead` as the cube of the share of training that is done. A training
    that ends with the fifth step, or before it, ends with its weights.
    """

    average: nn.ModuleDict
    first: int
    """The number of steps before the present problem."""

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        return training.recipe.lookahead > 0

    def begin_problem(self, module: nn.Module) -> None:
        self.average = nn.ModuleDict({"module": copy.deepcopy(module).requires_grad_(False)})
        self.first = self.training.ends[self.training.number - 1] if self.training.number else 0

    def copies(self) -> Mapping[str, nn.Module]:
        return {"lookahead": self.average}

    @torch.no_grad()
    def after_step(self, value: float) -> None:
        training = self.training
        if training.step % _EVERY and not training.is_problem_done:
            return
        if training.is_problem_done and (training.step - 1) // _EVERY == self.first // _EVERY:
            return  # too short a training to have an average
        decay = training.recipe.lookahead**_EVERY * training.progress**3
        averages = self.average["module"].state_dict().values()
        for average, weight in zip(averages, training.problem.module.state_dict().values(), strict=True):
            if weight.is_floating_point() or weight.is_complex():
                if not training.is_problem_done:  # the last step keeps the average as it is
                    average.lerp_(weight, 1 - decay)
                weight.copy_(average)
