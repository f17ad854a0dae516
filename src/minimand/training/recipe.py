"""Recipes: optimizer, schedule, augmentation, epochs."""

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import nn

from ..calls import call_with
from ..data import Augmentation, Data
from ..names import unknown_name


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with Nesterov momentum."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters."""
        groups = _groups(model, self.weight_decay)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters."""
        return torch.optim.AdamW(_groups(model, self.weight_decay), lr=self.lr, betas=self.betas)


def _groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weights decay; biases, normalization and coefficients, all of them vectors, do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


@dataclass(frozen=True)
class Cosine:
    """The learning rate falls to 0 along half a cosine, after a linear warm-up over a fraction of training."""

    warmup: float = 0.0

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by, from `progress` 0 to 1."""
        if progress < self.warmup:
            return progress / self.warmup
        return (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2


@dataclass(frozen=True)
class OneCycle:
    """The learning rate rises linearly over the first part of training and falls linearly to 0 (Smith, 2018)."""

    rise: float = 0.25
    start: float = 0.1

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by, from `progress` 0 to 1."""
        if progress < self.rise:
            return self.start + (1 - self.start) * progress / self.rise
        return (1 - progress) / (1 - self.rise)


@dataclass(frozen=True)
class Step:
    """The learning rate is multiplied by `by` at each of these fractions of training."""

    at: tuple[float, ...] = (0.5, 0.75)
    by: float = 0.1

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by, from `progress` 0 to 1."""
        return self.by ** sum(progress >= milestone for milestone in self.at)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever decides the update of its layers."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: SGD | AdamW = SGD()
    schedule: OneCycle | Cosine | Step = OneCycle()
    label_smoothing: float = 0.0
    ema: float = 0.0
    """Decay per step of the moving average of the weights that is evaluated; 0 for none."""
    clip: float = 0.0
    """The norm that gradients are scaled down to; 0 for none."""
    bf16: bool = False
    """Run under bfloat16 autocast."""
    compile: bool = False
    """Run the model through torch.compile."""
    augmentation: Augmentation | None = None
    """What is done to images; None for what the data has."""

    def __post_init__(self) -> None:
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"Recipe.{name} is {value}; expected {low:g} to {high:g}.")
        if self.optimizer.lr <= 0:
            raise ValueError(f"Recipe.optimizer.lr is {self.optimizer.lr}; expected a positive number.")


_BOUNDS = (
    ("epochs", 1, math.inf),
    ("batch_size", 1, math.inf),
    ("label_smoothing", 0, 1),
    ("ema", 0, 1),
    ("clip", 0, math.inf),
)

# A first look at any data set in about the same time: how many samples are seen, at most and at least how often.
_SAMPLES_SEEN = 120_000
_EPOCHS = (2, 30)


def default_recipe(data: Data) -> Recipe:
    """A short recipe for a first look: SGD for images, Adam for vectors; few epochs of large data, many of small."""
    low, high = _EPOCHS
    epochs = min(max(round(_SAMPLES_SEEN / len(data.train)), low), high)
    if len(data.shape) == 3:
        return Recipe(epochs=epochs, bf16=hardware_has_bf16())
    adam = AdamW(lr=5e-3, weight_decay=0.0)
    return Recipe(epochs=epochs, batch_size=min(128, len(data.train)), optimizer=adam, schedule=Cosine())


def hardware_has_bf16() -> bool:
    """Whether bfloat16 is fast here: on the GPU, or on a processor with instructions for it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and newer
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def as_config(value: Any) -> Any:
    """A dataclass as plain values: {class name: {field: value}}, or the class name where it has no fields."""
    if is_dataclass(value):
        values = {field.name: as_config(getattr(value, field.name)) for field in fields(value)}
        return {type(value).__name__: values} if values else type(value).__name__
    return list(value) if isinstance(value, tuple) else value


def from_config(config: Any) -> Any:
    """The inverse of `as_config` for recipes.

    Raises:
        ValueError: a class that no recipe has, or fields that it does not have.
    """
    classes = {cls.__name__: cls for cls in (Recipe, SGD, AdamW, OneCycle, Cosine, Step, Augmentation)}
    if isinstance(config, dict):
        ((name, values),) = config.items()
        if name not in classes:
            raise unknown_name("part of a recipe", name, classes)
        return call_with(classes[name], {key: from_config(value) for key, value in values.items()}, name)
    return tuple(config) if isinstance(config, list) else config
