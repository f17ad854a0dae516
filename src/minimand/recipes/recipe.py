"""Recipes: how a model is trained, whatever decides the update of its layers."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

import torch
from torch import nn

from .._support.checks import check_flag, check_number
from .._support.errors import MinimandError, WrongTypeError, unknown_name
from .._support.names.calls import call_with
from .._support.torch.internals import BatchNorm
from ..layers.thresholds import Threshold
from .augmentation import Augmentation
from .optimizers import OPTIMIZERS, SGD, AdamW, Optimizer, make_optimizer
from .schedules import SCHEDULES, Cosine, OneCycle, Schedule, make_schedule
from .torch_optimizer import TorchOptimizer

if TYPE_CHECKING:
    from ..data.data import Data

Precision = Literal["auto", "fp32", "bf16"]
"""The number format of a forward pass: float32, or bfloat16 under autocast; "auto" is one of them by `as_precision`."""

TestViews = Literal[1, 2, 6]
"""The views of a test image: itself; with its mirror; with those of the image shifted by a pixel two ways."""

T = TypeVar("T")


class Named(Generic[T]):
    """A field of a recipe that takes an object, or a text such as "adamw(lr=0.001)" that one is made of."""

    def __init__(
        self, make: Callable[[str], T], names: Iterable[str], kinds: UnionType, default: T, example: str
    ) -> None:
        self.make, self.names, self.kinds, self.default, self.example = make, names, kinds, default, example

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: Any = None) -> T:
        return self.default if instance is None else vars(instance)[self.name]

    def __set__(self, instance: Any, value: T | str) -> None:
        setting = self.make(value) if isinstance(value, str) else value
        if not isinstance(setting, self.kinds):
            names = ", ".join(map(repr, self.names))
            raise WrongTypeError(f"Recipe.{self.name} is {value!r}; expected {names}, or one such as {self.example}.")
        vars(instance)[self.name] = setting


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: optimizer, schedule, augmentation, epochs. Optimizer and schedule may be names."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: Named[Optimizer] = Named(make_optimizer, OPTIMIZERS, Optimizer, SGD(), "mm.SGD(lr=0.1)")
    schedule: Named[Schedule] = Named(make_schedule, SCHEDULES, Schedule, OneCycle(), "mm.Cosine()")
    label_smoothing: float = 0.0
    mixup: float = 0.0
    """Mixup's parameter: each sample is averaged with another one of its batch, and their targets alike, by a share
    drawn for each batch from Beta(mixup, mixup) (Zhang et al. 2018); 0 for none."""
    cutmix: float = 0.0
    """CutMix's parameter: a rectangle of each image, of a share of its area drawn as for mixup, is pasted into another
    one, and their targets are averaged by the areas (Yun et al. 2019); 0 for none. With mixup too, each batch has one
    of the two, with equal probability. Mixed samples have no training accuracy."""
    ema: float = 0.0
    """The decay per step of the moving average of the weights that is evaluated, at first less; 0 for none."""
    clip: float = 0.0
    """The norm that gradients are scaled down to; 0 for none."""
    adaptive_clip: float = 0.0
    """Gradients of a unit are scaled down to this times the norm of its weights, in all layers but the final one (Brock
    et al. 2021; 0.01 is a usual value); 0 for none."""
    scalars: float = 1.0
    """The factor on the learning rate of parameters that are one number, a tenth for Fixup (Zhang et al. 2019), and of
    the coefficients that a skeleton learns."""
    biases: float = 1.0
    """The factor on the learning rate of the biases of normalizations, 64 in airbench (Jordan 2024); if it is not 1,
    they decay as weights do."""
    whiten: int = 0
    """The epochs in which the bias of the first layer, a convolution, is trained, if its filters are those that whiten
    patches of the training images and stay (the scheme `whiten`; Jordan 2024); 0 for a first layer like any other."""
    lookahead: float = 0.0
    """The decay per step of an average that the weights are set back to every five steps, ever less far, and at the end
    (Zhang et al. 2019; the schedule of Jordan 2024; 0.95 is usual); 0 for none."""
    precision: Precision = "auto"
    """The number format of the forward pass: "bf16" is bfloat16 autocast, weights and updates stay in float32. "auto"
    is bf16 where the hardware is fast at it, for images and networks with batch normalization and without thresholds,
    and for language models, on a CPU those of a width of 128 and more; else fp32. A run's configuration says which it
    became, and a run that goes on keeps it."""
    compile: bool = False
    """Whether the model runs through torch.compile."""
    augmentation: Augmentation | None = None
    """Random changes of images in training; None for those that the data set has."""
    accumulate: int = 1
    """Batches whose gradients are summed in one update: that of a batch so many times larger, in the memory of one."""
    test_views: TestViews = 1
    """The views of each test image whose outputs are averaged after the last epoch: 2 are the image and its mirror, 6
    those of the image shifted by a pixel up left and down right too, with half the weight."""
    validation: float = 0.0
    """The share of the training samples that is kept out of training and evaluated after each epoch; 0 for none. Data
    with a validation part are judged by that instead."""
    early_stopping: int = 0
    """Epochs without a lower validation loss after which training stops and the best weights are kept; 0 for never. It
    needs `validation`, or data with a validation part."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            check_number(f"Recipe.{name}", getattr(self, name), 1, math.inf, whole=True)
        check_number("Recipe.label_smoothing", self.label_smoothing, 0, 1)
        for name in ("mixup", "cutmix", "scalars", "biases", "clip", "adaptive_clip"):
            check_number(f"Recipe.{name}", getattr(self, name), 0, math.inf, below=True)
        for name in ("ema", "lookahead", "validation"):
            check_number(f"Recipe.{name}", getattr(self, name), 0, 1, below=True)
        for name in ("whiten", "early_stopping"):
            check_number(f"Recipe.{name}", getattr(self, name), 0, math.inf, whole=True)
        if self.test_views not in get_args(TestViews):
            raise MinimandError(f"Recipe.test_views is {self.test_views!r}; expected 1, 2 or 6.")
        check_flag("Recipe.compile", self.compile)
        if self.clip and self.adaptive_clip:
            both = f"Recipe.clip is {self.clip} and Recipe.adaptive_clip {self.adaptive_clip}"
            raise MinimandError(f"{both}; expected one of them to be 0.")
        if self.precision not in get_args(Precision):
            raise unknown_name("precision of Recipe", str(self.precision), get_args(Precision))
        if not isinstance(self.augmentation, Augmentation | None):
            raise WrongTypeError(f"Recipe.augmentation is {self.augmentation!r}; expected mm.Augmentation(...).")

    @property
    def samples_per_update(self) -> int:
        """The number of samples whose gradients are summed in one update."""
        return self.batch_size * self.accumulate

    @property
    def references(self) -> tuple[str, ...]:
        """Keys into references.bib of the tricks that the recipe uses, its optimizer among them."""
        tricks = {"brock2021high": self.adaptive_clip, "zhang2019lookahead": self.lookahead}
        tricks["jordan2024airbench"] = self.whiten or self.lookahead or self.biases != 1
        optimizer = getattr(self.optimizer, "references", ())
        return (*optimizer, *(key for key, is_used in tricks.items() if is_used))


# A first look at any data set in about the same time: how many samples are seen, at most and at least how often.
_SAMPLES_SEEN = 120_000
_EPOCHS = (2, 30)
# Of text: the tokens seen, those of an update, and the rate at a width of 128, which falls as width grows.
_TOKENS_SEEN, _TOKENS_PER_UPDATE = 1_300_000, 2048
_TEXT_RATE, _TEXT_WIDTH = 3e-3, 128


def default_recipe(data: "Data", model: nn.Module) -> Recipe:
    """A short recipe for a first look: few epochs of large data, many of small.

    SGD for networks with normalization, which bear its learning rate, on images; Adam for all others, and for networks
    of thresholds, which learn little by SGD in so few steps. AdamW with a warm-up, clipped, for language models.
    """
    if data.is_text:
        return _for_text(data, model)
    low, high = _EPOCHS
    epochs = min(max(round(_SAMPLES_SEEN / len(data.train)), low), high)
    has_thresholds = _has_thresholds(model)
    if _is_normalized_on_images(data, model) and not has_thresholds:
        return Recipe(epochs=epochs)
    adam = AdamW(lr=3e-3 if has_thresholds else 5e-3, weight_decay=0.0)
    return Recipe(epochs=epochs, batch_size=min(128, len(data.train)), optimizer=adam, schedule=Cosine())


def _for_text(data: "Data", model: nn.Module) -> Recipe:
    context = data.shape[0]
    epochs = min(max(round(_TOKENS_SEEN / (len(data.train) * context)), 1), _EPOCHS[1])
    rate = _TEXT_RATE * min(_TEXT_WIDTH / max(_text_width(model), 1), 1)
    return Recipe(
        epochs=epochs,
        batch_size=min(max(_TOKENS_PER_UPDATE // context, 1), len(data.train)),
        optimizer=AdamW(lr=rate, betas=(0.9, 0.99), weight_decay=0.1),
        schedule=Cosine(warmup=0.05, floor=0.1),
        clip=1.0,
    )


def _text_width(model: nn.Module) -> int:
    """The length of the vectors that a model looks tokens up as; 0 for a model without an embedding."""
    return max((module.embedding_dim for module in model.modules() if isinstance(module, nn.Embedding)), default=0)


def as_precision(precision: Precision, data: "Data", model: nn.Module, device: torch.device) -> Precision:
    """The precision of a model on some data and a device: the named one, and what "auto" becomes.

    A network of thresholds stays in float32, in which it is packed: bfloat16 would move samples across a jump. A model
    may have one precision that it runs in, its `only_precision`, as packed ones do.
    """
    if precision != "auto":
        return precision
    if (only := getattr(model, "only_precision", None)) in ("fp32", "bf16"):
        return only
    pays = _is_normalized_on_images(data, model)
    if data.is_text:  # in narrow models a CPU spends more on casts than it gains
        pays = device.type != "cpu" or _text_width(model) >= _TEXT_WIDTH
    gains = pays and has_bf16(device) and not _has_thresholds(model)
    return "bf16" if gains else "fp32"


def _is_normalized_on_images(data: "Data", model: nn.Module) -> bool:
    return len(data.shape) == 3 and any(isinstance(m, BatchNorm) for m in model.modules())


def _has_thresholds(model: nn.Module) -> bool:
    return any(isinstance(m, Threshold) for m in model.modules())


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is fast on a device: on a GPU of today, or on a processor with instructions for it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and newer
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def as_config(value: Any) -> Any:
    """A dataclass as plain values: {class name: {field: value}}, or the class name where it has no fields."""
    if is_dataclass(value) and not isinstance(value, type):
        values = {entry.name: as_config(getattr(value, entry.name)) for entry in fields(value)}
        return {type(value).__name__: values} if values else type(value).__name__
    if isinstance(value, tuple | list):
        return [as_config(part) for part in value]
    return value if isinstance(value, str | int | float | None) else type(value).__qualname__


def from_config(config: Any) -> Any:
    """The recipe, or the part of one, that `as_config` made plain values of.

    Raises:
        MinimandError: a class that no recipe has, or fields that it does not have.
    """
    parts = (Recipe, Augmentation, TorchOptimizer, *OPTIMIZERS.values(), *SCHEDULES.values())
    classes = {cls.__name__: cls for cls in parts}
    if isinstance(config, dict):
        ((name, values),) = config.items()
        if name not in classes:
            raise unknown_name("part of a recipe", name, classes)
        return call_with(classes[name], {key: from_config(value) for key, value in values.items()}, name)
    return tuple(map(from_config, config)) if isinstance(config, list) else config
