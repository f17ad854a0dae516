"""Any optimizer of `torch.optim` by name, with the groups that a recipe makes of a model's parameters."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .._support.checks import check_number
from .._support.errors import MinimandError, WrongTypeError, unknown_name
from .parameter_groups import UpdateRule, parameter_groups, trainable_parameters

PREFIX = "torch.optim."
_RULES: dict[str, UpdateRule] = {"SGD": "sgd", "ASGD": "sgd", "Muon": "muon"}  # all others step by entry
_DECOUPLED, _DECOUPLED_OPTION = ("AdamW", "Adafactor"), "decoupled_weight_decay"
"""The optimizers of torch that shrink weights by weight decay, and the option by which others do."""
REFUSED = {
    "LBFGS": "calls the loss again within a step",
    "SparseAdam": "takes sparse gradients only",
}
"""The optimizers of torch that cannot work in a training here, and why."""
_SINCE = {"Muon": "2.9", "Adafactor": "2.5"}


def torch_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """The optimizers of `torch.optim` of this version by name."""
    return {
        name: thing
        for name, thing in vars(torch.optim).items()
        if isinstance(thing, type) and issubclass(thing, torch.optim.Optimizer) and thing is not torch.optim.Optimizer
    }


@dataclass(frozen=True)
class TorchOptimizer:
    """An optimizer of `torch.optim` by name, such as "NAdam", with options; those left out are torch's own."""

    name: str
    """The name of the class, in any case."""
    lr: float = math.nan
    """The learning rate; by default, as long as it is no number, that of the class."""
    weight_decay: float = math.nan
    """The weight decay; by default, as long as it is no number, that of the class."""
    options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    """The other arguments of the class by name; kept as pairs."""

    def __post_init__(self) -> None:
        cls = _class_of(self.name)
        defaults = {name: p.default for name, p in inspect.signature(cls).parameters.items() if name != "params"}
        options = _plain_options(self.options)
        for name in options:
            if name not in defaults or name in ("lr", "weight_decay"):
                raise unknown_name(f"option of {PREFIX}{cls.__name__}", name, {*defaults, "lr", "weight_decay"})
        values = {"lr": self.lr, "weight_decay": self.weight_decay}
        for name, value in values.items():
            is_default = isinstance(value, float) and math.isnan(value)
            values[name] = float(defaults.get(name, 0.0)) if is_default else value
        check_number("TorchOptimizer.lr", values["lr"], 0, math.inf, below=True)
        check_number("TorchOptimizer.weight_decay", values["weight_decay"], 0, math.inf, below=True)
        if values["weight_decay"] and "weight_decay" not in defaults:
            raise MinimandError(
                f"TorchOptimizer.weight_decay is {self.weight_decay}, but {cls.__name__} has none; expected 0."
            )
        for name, value in {"name": cls.__name__, **values, "options": tuple(sorted(options.items()))}.items():
            object.__setattr__(self, name, value)
        try:
            self._of([nn.Parameter(torch.zeros(2, 2))])
        except (ValueError, TypeError, RuntimeError) as error:
            raise MinimandError(f"{PREFIX}{cls.__name__} does not take options {options}: {error}.") from None

    def build(self, model: nn.Module, scalars: float = 1.0, biases: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters; `scalars` and `biases` as in `Recipe`.

        Raises:
            MinimandError: torch's Muon, and a parameter that is no matrix.
        """
        parameters = list(trainable_parameters(model))
        if self.name == "Muon" and (others := [entry.name for entry in parameters if entry.parameter.ndim != 2]):
            raise MinimandError(
                f"{PREFIX}Muon takes matrices only, and {others[0]} is none; expected optimizer='muon', which also "
                "takes convolutions and gives everything else to AdamW."
            )
        epsilon = self._settings.get("eps", inspect.signature(_class_of(self.name)).parameters.get("eps"))
        epsilon = epsilon.default if isinstance(epsilon, inspect.Parameter) else epsilon
        scaled = epsilon if isinstance(epsilon, float) else None
        rule = _RULES.get(self.name, "adam")
        in_gradient = rule == "adam" and self.name not in _DECOUPLED and not self._settings.get(_DECOUPLED_OPTION)
        return self._of(parameter_groups(parameters, self.weight_decay, scalars, rule, scaled, biases, in_gradient))

    def _of(self, parameters: Any) -> torch.optim.Optimizer:
        return _class_of(self.name)(parameters, lr=self.lr, **self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        return dict(self.options)


def _class_of(name: Any) -> Any:
    optimizers = torch_optimizers()
    by_any_case = {exact.lower(): exact for exact in {*optimizers, *_SINCE}}
    if not isinstance(name, str) or name.lower() not in by_any_case:
        raise unknown_name("name of TorchOptimizer", str(name), optimizers.keys() - REFUSED)
    exact = by_any_case[name.lower()]
    if exact not in optimizers:
        raise MinimandError(f"{PREFIX}{exact} needs torch {_SINCE[exact]}; this is {torch.__version__}.")
    if exact in REFUSED:
        raise MinimandError(f"{PREFIX}{exact} {REFUSED[exact]}, which a training here does not; expected another one.")
    return optimizers[exact]


def _plain_options(options: Any) -> dict[str, Any]:
    try:
        pairs: dict[Any, Any] = dict(options)
    except (TypeError, ValueError):
        pairs = {None: None}
    if not all(isinstance(name, str) for name in pairs):
        raise WrongTypeError(
            f"TorchOptimizer.options is {options!r}; expected arguments by name, as in {{'eps': 1e-6}}."
        )
    return {name: tuple(value) if isinstance(value, list) else value for name, value in pairs.items()}
