"""The method of end-to-end backpropagation: the chain rule through the whole network."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..loop.losses import Loss
from ._registry import METHODS
from .method import Method, chain_rule


@METHODS.register("backpropagation")
@dataclass(frozen=True)
class Backpropagation(Method):
    """End-to-end backpropagation: the gradient of the loss, by the chain rule through the whole network."""

    references: ClassVar = ("rumelhart1986",)

    def backward(self, model: nn.Module, x: Any, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        return chain_rule(model, x, y, loss)
