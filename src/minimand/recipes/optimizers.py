"""Optimizers of a recipe: frozen settings that build an optimizer of torch for the parameters of a model."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from .._support.checks import check_flag, check_number
from .._support.errors import MinimandError, WrongTypeError, unknown_name
from .._support.names.calls import call_with, parse_call
from ..networks.kinds import has_rows_of_inputs
from .muon import MuonOptimizer
from .parameter_groups import hidden_matrices, parameter_groups, trainable_parameters
from .torch_optimizer import PREFIX, REFUSED, TorchOptimizer, torch_optimizers

EPSILON = 1e-8
"""What Adam adds to the root of the mean square of gradients."""


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
        check_flag("SGD.nesterov", self.nesterov)

    def build(self, model: nn.Module, scalars: float = 1.0, biases: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters; `scalars` and `biases` as in `Recipe`."""
        groups = parameter_groups(trainable_parameters(model), self.weight_decay, scalars, "sgd", biases=biases)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        _check_rate("AdamW", self.lr, self.weight_decay)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise WrongTypeError(f"AdamW.betas is {self.betas!r}; expected two numbers, such as (0.9, 0.999).")
        for i in range(2):
            check_number(f"AdamW.betas[{i}]", self.betas[i], 0, 1, below=True)

    def build(self, model: nn.Module, scalars: float = 1.0, biases: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters; `scalars` and `biases` as in `Recipe`."""
        return torch.optim.AdamW(self._groups(model, scalars, biases), lr=self.lr, betas=self.betas)

    def _groups(
        self, model: nn.Module, scalars: float, biases: float, decay_in_gradient: bool = False
    ) -> list[dict[str, Any]]:
        parameters, decay = trainable_parameters(model), self.weight_decay
        return parameter_groups(parameters, decay, scalars, "adam", EPSILON, biases, decay_in_gradient)


@dataclass(frozen=True)
class Adam(AdamW):
    """Adam with weight decay as a part of the gradient."""

    weight_decay: float = 0.0

    def build(self, model: nn.Module, scalars: float = 1.0, biases: float = 1.0) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self._groups(model, scalars, biases, decay_in_gradient=True), lr=self.lr, betas=self.betas
        )


@dataclass(frozen=True)
class Muon:
    """Steepest descent under the spectral norm for hidden matrices, AdamW for all else.

    Hidden are the weights of every linear or convolutional layer but the first and the last of the model, in the order
    of registration; embeddings, biases, normalization, scales and coefficients go to AdamW with the first and the last,
    and so do complex weights.
    """

    references: ClassVar[tuple[str, ...]] = ("jordan2024muon",)

    lr: float = 0.02
    """The spectral norm of a step, for matrices that are not taller than wide."""
    momentum: float = 0.95
    weight_decay: float = 0.0
    others: AdamW = field(default_factory=lambda: AdamW(lr=1e-3, weight_decay=0.0))
    """The optimizer of all other parameters; its learning rate follows the same schedule."""

    def __post_init__(self) -> None:
        _check_rate("Muon", self.lr, self.weight_decay)
        check_number("Muon.momentum", self.momentum, 0, 1, below=True)
        if not isinstance(self.others, AdamW) or isinstance(self.others, Adam):
            raise WrongTypeError(f"Muon.others is {self.others!r}; expected an mm.AdamW.")

    def build(self, model: nn.Module, scalars: float = 1.0, biases: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters; `scalars` and `biases` as in `Recipe`."""
        hidden, others = hidden_matrices(model), self.others
        parameters = list(trainable_parameters(model))
        matrices = [entry for entry in parameters if entry.parameter in hidden]
        rest = [entry for entry in parameters if entry.parameter not in hidden]
        groups: list[dict[str, Any]] = []
        for transposed in (False, True):
            members = [entry for entry in matrices if has_rows_of_inputs(entry.owner) == transposed]
            if members or not transposed:
                of_muon = {"momentum": self.momentum, "transposed": transposed}
                groups += [group | of_muon for group in parameter_groups(members, self.weight_decay, rule="muon")]
        for group in parameter_groups(rest, others.weight_decay, scalars, epsilon=EPSILON, biases=biases):
            group |= {"betas": others.betas, "share": group["share"] * others.lr / self.lr}
            groups.append(group)
        return MuonOptimizer(groups, self.lr)


Optimizer = SGD | AdamW | Muon | TorchOptimizer
"""Any of the optimizers of a recipe; `Adam` is a kind of `AdamW`."""

OPTIMIZERS: dict[str, type[SGD | AdamW | Muon]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "muon": Muon}
"""The optimizers of a recipe by name; all others are those of `torch.optim`."""


def make_optimizer(text: str) -> Optimizer:
    """The optimizer of a text: one of ours such as "adamw(lr=0.001)", else torch's: "nadam", "torch.optim.SGD(lr=1)".

    Raises:
        MinimandError: there is no such optimizer, or it has no such setting, which names the nearest.
    """
    name, settings = parse_call(text.strip().removeprefix(PREFIX) if isinstance(text, str) else text, "optimizer")
    if name in OPTIMIZERS and not text.strip().startswith(PREFIX):
        return call_with(OPTIMIZERS[name], settings, name)
    of_torch = {known.lower() for known in torch_optimizers()}
    if name.lower() not in of_torch and name != "Muon":
        raise unknown_name("optimizer", name, {*OPTIMIZERS, *of_torch} - {refused.lower() for refused in REFUSED})
    own = {key: settings.pop(key) for key in ("lr", "weight_decay") if key in settings}
    return TorchOptimizer(name, **own, options=settings)


def _check_rate(name: str, lr: Any, weight_decay: Any) -> None:
    check_number(f"{name}.weight_decay", weight_decay, 0, math.inf, below=True)
    if not (isinstance(lr, int | float) and not isinstance(lr, bool) and 0 < lr < math.inf):
        raise MinimandError(f"{name}.lr is {lr!r}; expected a positive number.")
