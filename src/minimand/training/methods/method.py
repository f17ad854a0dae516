"""What decides the update of each layer, and in which order problems are solved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..distributed.ranks import Ranks
from ..loop.losses import Loss
from .local.activations import Cache


@dataclass(frozen=True)
class Problem:
    """What is trained at a time, with an optimizer and a schedule of its own."""

    module: nn.Module
    """From a batch to outputs, which the loss judges."""
    trained: nn.Module
    """Holds the parameters that move."""
    epochs: int


@dataclass(frozen=True)
class Plan:
    """Problems, solved one after another."""

    problems: Sequence[Problem]
    saved: nn.Module
    """Holds all parameters and buffers that any of them changes."""
    cache: Cache | None = None
    """Keeps what the problems before the present one settled."""
    ensemble: nn.Module | None = None
    """Outputs of all that was trained, beside those of the model."""
    ranks: Ranks | None = None
    """The processes, where each has modules of its own."""


class Method(Protocol):
    """What decides the update of each layer."""

    def plan(self, model: nn.Module, example: Callable[[], Tensor], num_outputs: int, epochs: int) -> Plan:
        """The problems that a model is trained by.

        Args:
            model: as given to `mm.fit`.
            example: gives a few samples, as the model sees them.
            num_outputs: the number of classes, or the length of a target.
            epochs: those of the recipe.
        """
        ...

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Fill the `.grad` of every parameter of a problem; returns the loss and the outputs, detached."""
        ...


def whole(model: nn.Module, epochs: int) -> Plan:
    """The one problem of training a whole model."""
    return Plan([Problem(model, model, epochs)], model)


def chain_rule(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """The gradient of the loss through all of a module; returns the loss and the outputs, detached."""
    outputs = model(x)
    return descend(loss(outputs, y), outputs)


def descend(value: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Fill the gradients of a loss; returns it and the outputs, detached."""
    with torch.autocast(value.device.type, enabled=False):  # backward takes the precisions of forward by itself
        value.backward()
    return value.detach(), outputs.detach()
