"""Losses by name, and the checks of what they are given and return."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ...data.data import Data
from ...recipes.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of outputs and targets to a scalar: the mean over the batch."""


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error: (N, d) against (N, d) or, for d = 1, (N,)."""
    return F.mse_loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype))


def as_loss(loss: str | Loss | None, data: Data, recipe: Recipe | None = None) -> Loss:
    """The loss of a name or a callable, None for what the task is judged by; it checks what it is given and returns."""
    chosen = loss or ("cross_entropy" if data.task == "classification" else "mse")
    softened = {part: getattr(recipe, part, 0.0) for part in ("label_smoothing", "mixup", "cutmix")}
    for part, value in softened.items():
        if value and chosen != "cross_entropy":
            shown = repr(chosen) if isinstance(chosen, str) else "a function of your own"
            expected = f"expected 'cross_entropy', or {part}=0"
            raise MinimandError(f"Recipe.{part} is {value}, but the loss is {shown}; {expected}.")
    if chosen == "cross_entropy":
        if data.task != "classification":
            raise MinimandError(f"loss is 'cross_entropy', but {data.name} is a regression; expected 'mse'.")
        chosen = partial(F.cross_entropy, label_smoothing=softened["label_smoothing"])
    elif chosen == "mse":
        chosen = one_hot_mse if data.task == "classification" else mse
    elif isinstance(chosen, str):
        raise unknown_name("loss", chosen, ("cross_entropy", "mse"))
    return partial(_checked, chosen, data)


def _checked(loss: Loss, data: Data, outputs: Tensor, targets: Tensor) -> Tensor:
    data.check_outputs(outputs, len(targets))
    value = loss(outputs, targets)
    if not isinstance(value, Tensor) or value.ndim:
        shape = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise WrongTypeError(f"loss returned {shape}; expected a scalar tensor: the mean over the batch.")
    return value


def one_hot_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error against one-hot classes: (N, classes) against (N,)."""
    return mse(outputs, F.one_hot(targets, outputs.shape[1]))
