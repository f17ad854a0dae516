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
    accumulates: ClassVar = False  # parts of a batch would each climb another way

    def backward(self, model: nn.Module, x: Any, y: Tensor, loss: Any) -> tuple[Tensor, Tensor]:
        value, outputs = chain_rule(model, x, y, loss)
        gradients = {p: p.grad for p in model.parameters() if p.grad is not None}
        weights = {p: p.detach().clone() for p in gradients}
        scale = self.radius / nn.utils.get_total_norm(gradients.values()).clamp_min(1e-12)
        _set({p: weights[p] + scale * gradient for p, gradient in gradients.items()})
        model.zero_grad()
        chain_rule(model, x, y, loss)
        _set(weights)
        return value, outputs


@torch.no_grad()
def _set(values: dict[nn.Parameter, Tensor]) -> None:
    for parameter, value in values.items():
        parameter.copy_(value)
    torch.clear_autocast_cache()  # under bfloat16 it holds copies of the weights before
