"""End-to-end backpropagation."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from .losses import Loss


class Method(Protocol):
    """What decides the update of each layer."""

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Fill the `.grad` of every parameter; returns the loss and the outputs, detached."""
        ...


@dataclass(frozen=True)
class Backpropagation:
    """The gradient of the loss, by the chain rule through the whole network."""

    references: ClassVar = ("rumelhart1986",)

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """See `Method`."""
        outputs = model(x)
        value = loss(outputs, y)
        with torch.autocast(x.device.type, enabled=False):  # backward takes the precisions of forward by itself
            value.backward()
        return value.detach(), outputs.detach()
