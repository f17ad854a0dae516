"""Optimizers of a recipe: frozen settings that build an optimizer of torch for the parameters of a model."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .._support.checks import check_number
from .._support.errors import MinimandError
from ..networks.kinds import LINEAR_OR_CONVOLUTION, WRAPPED_NORMALIZATIONS


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum: Nesterov's by default, heavy-ball momentum with `nesterov=False`."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = True

    def __post_init__(self) -> None:
        _check_rate("SGD", self.lr, self.weight_decay)
        check_number("SGD.momentum", self.momentum, 0, 1, below=True)

    def build(self, model: nn.Module, scalars: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters; `scalars` as in `Recipe`."""
        groups = parameter_groups(model, self.weight_decay, scalars)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        _check_rate("AdamW", self.lr, self.weight_decay)
        for i in range(2):
            check_number(f"AdamW.betas[{i}]", self.betas[i], 0, 1, below=True)

    def build(self, model: nn.Module, scalars: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters; `scalars` as in `Recipe`."""
        return torch.optim.AdamW(parameter_groups(model, self.weight_decay, scalars), lr=self.lr, betas=self.betas)


@dataclass(frozen=True)
class Adam(AdamW):
    """Adam with weight decay as a part of the gradient."""

    weight_decay: float = 0.0

    def build(self, model: nn.Module, scalars: float = 1.0) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameter_groups(model, self.weight_decay, scalars), lr=self.lr, betas=self.betas)


Optimizer = SGD | AdamW
"""Any of the optimizers of a recipe; `Adam` is a kind of `AdamW`."""

OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
"""The optimizers of a recipe by name."""


def parameter_groups(model: nn.Module, weight_decay: float, scalars: float) -> list[dict[str, Any]]:
    """The trainable parameters of a model in groups for an optimizer of torch.

    Weights decay; biases, normalization, scales and coefficients do not. Parameters that are one number have `scalars`
    times the learning rate: the `share` of their group.
    """
    groups: dict[tuple[bool, float], dict[str, Any]] = {
        (True, 1.0): {"params": [], "weight_decay": weight_decay, "share": 1.0},
        (False, 1.0): {"params": [], "weight_decay": 0.0, "share": 1.0},
    }
    groups.setdefault((False, scalars), {"params": [], "weight_decay": 0.0, "share": scalars})
    grouped: set[nn.Parameter] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in grouped:
                grouped.add(parameter)
                decays = _is_weight(module, parameter)
                share = scalars if parameter.numel() == 1 and not decays else 1.0
                groups[decays, share]["params"].append(parameter)
    return [group for group in groups.values() if group["params"] or group["share"] == 1.0]


def _is_weight(module: nn.Module, parameter: nn.Parameter) -> bool:
    if parameter.ndim < 2 or isinstance(module, WRAPPED_NORMALIZATIONS):
        return False
    # A scale of one's own is a vector that is shaped to be broadcast; a layer's weight may have that shape too.
    return isinstance(module, LINEAR_OR_CONVOLUTION) or sum(length > 1 for length in parameter.shape) > 1


def _check_rate(name: str, lr: Any, weight_decay: Any) -> None:
    check_number(f"{name}.weight_decay", weight_decay, 0, math.inf, below=True)
    if not (isinstance(lr, int | float) and 0 < lr < math.inf):
        raise MinimandError(f"{name}.lr is {lr!r}; expected a positive number.")
