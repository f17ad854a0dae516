"""The loss of a diagnosis or an initialization: a name, or any function."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from .flow import first_output

LossChoice = str | Callable[..., Tensor]
"""A name, or a function of (outputs, targets), or of the outputs alone where there is no target."""

_NAMED = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}


def loss_of(loss: LossChoice | None, output: Any, target: Any) -> Tensor:
    """The loss of an output as a scalar; raises ValueError or TypeError where there is none."""
    if callable(loss):
        value = loss(output) if target is None else loss(output, target)
    else:
        if target is None:
            raise MinimandError(
                f"loss is {loss!r} but there is no target; expected target=, what the outputs should be."
            )
        value = as_function(loss, target)(output, target)
    if not isinstance(value, Tensor) or value.ndim:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise WrongTypeError(f"loss returned {what}; expected a scalar tensor: the mean over the batch.")
    return value


def as_function(loss: LossChoice | None, target: Any) -> Callable[..., Tensor]:
    """The loss as a function of output and target, by default what suits the target.

    Raises:
        ValueError, TypeError: an unknown name; a target that is no tensor.
    """
    if callable(loss):
        return loss
    if loss is not None and loss not in _NAMED:
        raise unknown_name("loss", str(loss), _NAMED)
    if not isinstance(target, Tensor):
        raise WrongTypeError(f"target is {type(target).__name__}; expected a tensor, or loss=, a function of it.")
    named = _NAMED[loss or ("mse" if target.is_floating_point() else "cross_entropy")]
    return lambda output, target: named(first_output(output), target)
