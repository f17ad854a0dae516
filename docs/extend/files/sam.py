"""Sharpness-aware minimization (Foret et al. 2021)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minimand.training.methods._registry import METHODS
from minimand.training.methods.method import Method, chain_rule


@METHODS.register("sam")
@dataclass(frozen=True)
class SharpnessAware(Method):
    """Sharpness-aware minimization: the gradient at the weights moved uphill by `radius` (Foret et al. 2021)."""

    radius: float = 0.05

    distributed: ClassVar = None  # not tried with several processes

    def backward(self, model: nn.Module, x: Any, y: Tensor, loss: Any) -> tuple[Tensor, Tensor]:
        parameters = [p for p in model.parameters() if p.requires_grad]
        weights = [p.detach().clone() for p in parameters]
        sums = [p.grad for p in parameters]  # of the earlier parts of a batch, under Recipe(accumulate=...)
        _set_gradients(parameters, [None] * len(parameters))
        value, outputs = chain_rule(model, x, y, loss)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        scale = self.radius / nn.utils.get_total_norm(gradients).clamp_min(1e-12)
        _set_weights(parameters, [w + scale * g for w, g in zip(weights, gradients, strict=True)])
        _set_gradients(parameters, sums)
        chain_rule(model, x, y, loss)
        _set_weights(parameters, weights)
        return value, outputs


def _set_gradients(parameters: list[nn.Parameter], values: list[Tensor | None]) -> None:
    for p, value in zip(parameters, values, strict=True):
        p.grad = value


@torch.no_grad()
def _set_weights(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)
    torch.clear_autocast_cache()  # under bfloat16 it holds copies of the weights before
