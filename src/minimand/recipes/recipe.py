"""Recipes: optimizer, schedule, augmentation, epochs."""

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from .._support.calls import call_with
from .._support.checks import check_number
from .._support.errors import MinimandError, WrongTypeError, unknown_name
from .._support.torch_internals import BatchNorm, ConvNd
from ..networks.kinds import WRAPPED_NORMALIZATIONS
from .augmentation import Augmentation

if TYPE_CHECKING:
    from ..data.data import Data

Precision = Literal["fp32", "bf16"]
"""The number format of a forward pass: float32, or bfloat16 under autocast."""


def _check_kind(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    """Raise TypeError unless a value is of one of some classes."""
    if not isinstance(value, kinds):
        expected = " or ".join(f"mm.{kind.__name__}(...)" for kind in kinds)
        raise WrongTypeError(f"{name} is {value!r}; expected {expected}.")


def _check_rate(name: str, lr: Any, weight_decay: Any) -> None:
    check_number(f"{name}.weight_decay", weight_decay, 0, math.inf, below=True)
    if not (isinstance(lr, int | float) and 0 < lr < math.inf):
        raise MinimandError(f"{name}.lr is {lr!r}; expected a positive number.")


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with Nesterov momentum."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        _check_rate("SGD", self.lr, self.weight_decay)
        check_number("SGD.momentum", self.momentum, 0, 1, below=True)

    def build(self, model: nn.Module, scalars: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters; `scalars` as in `Recipe`."""
        groups = _groups(model, self.weight_decay, scalars)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0)


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
        return torch.optim.AdamW(_groups(model, self.weight_decay, scalars), lr=self.lr, betas=self.betas)


@dataclass(frozen=True)
class Adam(AdamW):
    """Adam with weight decay as a part of the gradient."""

    weight_decay: float = 0.0

    def build(self, model: nn.Module, scalars: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters; `scalars` as in `Recipe`."""
        return torch.optim.Adam(_groups(model, self.weight_decay, scalars), lr=self.lr, betas=self.betas)


def _groups(model: nn.Module, weight_decay: float, scalars: float) -> list[dict]:
    """Weights decay; biases, normalization, scales and coefficients do not. `share` is of the learning rate."""
    groups: dict[tuple[bool, float], dict] = {
        (decays, share): {"params": [], "weight_decay": weight_decay * decays, "share": share}
        for decays, share in ((True, 1.0), (False, 1.0), (False, scalars))
    }
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                decays = _is_weight(module, parameter)
                share = scalars if parameter.numel() == 1 and not decays else 1.0
                groups[decays, share]["params"].append(parameter)
    return [group for group in groups.values() if group["params"] or group["share"] == 1.0]


def _is_weight(module: nn.Module, parameter: nn.Parameter) -> bool:
    if parameter.ndim < 2 or isinstance(module, WRAPPED_NORMALIZATIONS):
        return False
    # A scale of one's own is a vector that is shaped to be broadcast; a layer's weight may have that shape too.
    return isinstance(module, nn.Linear | ConvNd) or sum(length > 1 for length in parameter.shape) > 1


@dataclass(frozen=True)
class Cosine:
    """The learning rate falls along half a cosine, after a linear warm-up over a fraction of training.

    The warm-up begins at a tenth: at 0 the first steps would change nothing.
    """

    warmup: float = 0.0
    floor: float = 0.0
    """Where it ends, as a fraction of the highest rate."""

    def __post_init__(self) -> None:
        check_number("Cosine.warmup", self.warmup, 0, 1, below=True)
        check_number("Cosine.floor", self.floor, 0, 1)

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by, from `progress` 0 to 1."""
        if progress < self.warmup:
            return 0.1 + 0.9 * progress / self.warmup
        fall = (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2
        return self.floor + (1 - self.floor) * fall


@dataclass(frozen=True)
class OneCycle:
    """The learning rate rises linearly over the first part of training and falls linearly to 0 (Smith, 2018)."""

    rise: float = 0.25
    start: float = 0.1

    def __post_init__(self) -> None:
        check_number("OneCycle.rise", self.rise, 0, 1, below=True)
        check_number("OneCycle.start", self.start, 0, 1)

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by, from `progress` 0 to 1."""
        if progress < self.rise:
            return self.start + (1 - self.start) * progress / self.rise
        return (1 - progress) / (1 - self.rise)


@dataclass(frozen=True)
class StepDecay:
    """The learning rate is multiplied by `by` at each of these fractions of training."""

    at: tuple[float, ...] = (0.5, 0.75)
    by: float = 0.1

    def __post_init__(self) -> None:
        for i, milestone in enumerate(self.at):
            check_number(f"StepDecay.at[{i}]", milestone, 0, 1)
        check_number("StepDecay.by", self.by, 0, 1)

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by, from `progress` 0 to 1."""
        return self.by ** sum(progress >= milestone for milestone in self.at)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever decides the update of its layers."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: SGD | AdamW = SGD()
    schedule: OneCycle | Cosine | StepDecay = OneCycle()
    label_smoothing: float = 0.0
    mixup: float = 0.0
    """Each sample is averaged with another one of its batch, and their targets alike, by a share drawn for each batch
    from Beta(mixup, mixup) (Zhang et al. 2018); 0 for none."""
    cutmix: float = 0.0
    """A rectangle of each image, of a share of its area drawn like that, is pasted into another one, and their targets
    are averaged by the areas (Yun et al. 2019); 0 for none. With mixup too, each batch has one of the two, with equal
    probability. What is mixed has no training accuracy."""
    ema: float = 0.0
    """Decay per step of the moving average of the weights that is evaluated; 0 for none."""
    clip: float = 0.0
    """The norm that gradients are scaled down to; 0 for none."""
    adaptive_clip: float = 0.0
    """Gradients of a unit are scaled down to this times the norm of its weights, in all layers but the final one (Brock
    et al. 2021; 0.01 is a usual value); 0 for none."""
    scalars: float = 1.0
    """The learning rate of parameters that are one number, such as the factors of branches, is times this: a tenth for
    Fixup (Zhang et al. 2019)."""
    precision: Precision = "fp32"
    """"bf16" runs the forward pass under bfloat16 autocast; weights and their updates stay in float32."""
    compile: bool = False
    """Run the model through torch.compile."""
    augmentation: Augmentation | None = None
    """What is done to images; None for what the data has."""

    def __post_init__(self) -> None:
        check_number("Recipe.epochs", self.epochs, 1, math.inf, whole=True)
        check_number("Recipe.batch_size", self.batch_size, 1, math.inf, whole=True)
        check_number("Recipe.label_smoothing", self.label_smoothing, 0, 1)
        check_number("Recipe.mixup", self.mixup, 0, math.inf, below=True)
        check_number("Recipe.cutmix", self.cutmix, 0, math.inf, below=True)
        check_number("Recipe.ema", self.ema, 0, 1, below=True)
        check_number("Recipe.scalars", self.scalars, 0, math.inf, below=True)
        check_number("Recipe.clip", self.clip, 0, math.inf, below=True)
        check_number("Recipe.adaptive_clip", self.adaptive_clip, 0, math.inf, below=True)
        if self.clip and self.adaptive_clip:
            given = f"Recipe.clip is {self.clip} and Recipe.adaptive_clip {self.adaptive_clip}"
            raise MinimandError(f"{given}; expected one of them to be 0.")
        _check_kind("Recipe.optimizer", self.optimizer, (SGD, AdamW))
        _check_kind("Recipe.schedule", self.schedule, (OneCycle, Cosine, StepDecay))
        if self.augmentation is not None:
            _check_kind("Recipe.augmentation", self.augmentation, (Augmentation,))

    @property
    def references(self) -> tuple[str, ...]:
        """Keys into references.bib."""
        return ("brock2021high",) * bool(self.adaptive_clip)


# A first look at any data set in about the same time: how many samples are seen, at most and at least how often.
_SAMPLES_SEEN = 120_000
_EPOCHS = (2, 30)


def default_recipe(data: "Data", model: nn.Module, device: torch.device) -> Recipe:
    """A short recipe for a first look: few epochs of large data, many of small.

    SGD for networks with normalization, which bear its learning rate, on images; Adam for all others.
    """
    low, high = _EPOCHS
    epochs = min(max(round(_SAMPLES_SEEN / len(data.train)), low), high)
    if len(data.shape) == 3 and any(isinstance(m, BatchNorm) for m in model.modules()):
        return Recipe(epochs=epochs, precision="bf16" if has_bf16(device) else "fp32")
    adam = AdamW(lr=5e-3, weight_decay=0.0)
    return Recipe(epochs=epochs, batch_size=min(128, len(data.train)), optimizer=adam, schedule=Cosine())


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is fast there: on a GPU of today, or on a processor with instructions for it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and newer
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def as_config(value: Any) -> Any:
    """A dataclass as plain values: {class name: {field: value}}, or the class name where it has no fields."""
    if is_dataclass(value) and not isinstance(value, type):
        values = {field.name: as_config(getattr(value, field.name)) for field in fields(value)}
        return {type(value).__name__: values} if values else type(value).__name__
    if isinstance(value, tuple | list):
        return [as_config(part) for part in value]
    return value if isinstance(value, str | int | float | None) else type(value).__qualname__


def from_config(config: Any) -> Any:
    """The inverse of `as_config` for recipes.

    Raises:
        ValueError: a class that no recipe has, or fields that it does not have.
    """
    classes = {cls.__name__: cls for cls in (Recipe, SGD, Adam, AdamW, OneCycle, Cosine, StepDecay, Augmentation)}
    if isinstance(config, dict):
        ((name, values),) = config.items()
        if name not in classes:
            raise unknown_name("part of a recipe", name, classes)
        return call_with(classes[name], {key: from_config(value) for key, value in values.items()}, name)
    return tuple(config) if isinstance(config, list) else config
