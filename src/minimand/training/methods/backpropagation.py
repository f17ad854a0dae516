"""End-to-end backpropagation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..loop.losses import Loss
from .method import Plan, chain_rule, whole


@dataclass(frozen=True)
class Backpropagation:
    """The gradient of the loss, by the chain rule through the whole network."""

    references: ClassVar = ("rumelhart1986",)

    def plan(self, model: nn.Module, example: Callable[[], Tensor], num_outputs: int, epochs: int) -> Plan:
        """See `Method`."""
        return whole(model, epochs)

    def backward(self, model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """See `Method`."""
        return chain_rule(model, x, y, loss)
