"""What a named model is, and the registry in which families put their models."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from numbers import Real
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from torch import Tensor, nn

from .._support.errors import MinimandError, unknown_name
from .._support.names.registry import Registry, instance_of
from ..algorithms import ALGORITHMS, Algorithm, is_map, is_proximal
from ..blocks.convolutional import Skip, initialize
from ..theory.kernel import Binding

Setting = int | float | str | None
Block = nn.Module | Mapping[str, nn.Module]
"""The block of a layer; by oracle, where a family has one of its own for each."""
F = TypeVar("F", bound=Callable[..., nn.Sequential])


@dataclass(frozen=True)
class Parts:
    """What a family makes an unrolled network from."""

    stem: nn.Module
    stages: Sequence[tuple[nn.Module | None, Sequence[Block]]]
    """Pairs (transition, blocks): only the first may do without a transition, and blocks may be none."""
    head: nn.Sequential
    """Normalization if need be, pooling, and last the classifier, a Linear."""
    as_map: Callable[[Tensor], Tensor] | None = None
    """Turns the state of blocks that work on tokens into a map (N, C, H, W)."""
    normalize: Callable[[], nn.Module] | None = None
    """Makes the map that answers an oracle named `normalize`, which some algorithms ask; None where there is none."""

    @property
    def modules(self) -> list[nn.Module]:
        """The stem, the head, and all transitions and blocks."""
        modules = [self.stem, self.head]
        for transition, blocks in self.stages:
            modules += [] if transition is None else [transition]
            for block in blocks:
                modules += [block] if isinstance(block, nn.Module) else block.values()
        return modules

    def initialized(self) -> "Parts":
        """The parts, the weights of their convolutions drawn by He's rule."""
        for module in self.modules:
            initialize(module)
        return self


@dataclass(frozen=True)
class ModelInfo:
    """A named model: how it is built, and what a person wants to know before choosing it."""

    name: str
    description: str
    build: Callable[..., Parts | nn.Sequential]
    """The family's function of the settings; of `num_classes` and `in_channels` unless the model takes tokens; of
    `binding` where there is one. One that takes `oracles`, their names, makes blocks for all of an algorithm's; any
    other is called once for each oracle."""
    settings: Mapping[str, Setting]
    """The model's settings with their defaults: positive integers, as floats probabilities below 1, booleans, or, where
    `build` has annotations that say so, None or texts."""
    binding: Binding | None
    """How a block becomes a gradient by default; None for a plain sequence of layers, which has no skeleton."""
    references: tuple[str, ...]
    takes_vectors: bool = False
    """Whether a sample is a vector (images are flattened) and `in_channels` its length."""
    takes_tokens: bool = False
    """Whether a sample is integers (`context`), each below `num_tokens`; outputs are logits for each position."""
    smallest: int = 1
    """The least side of an image that the model takes, in pixels."""
    image_size: int = 224
    """The side of the images that the model was made for, in pixels."""
    num_classes: int = 1000
    """The number of classes unless a caller says otherwise."""
    algorithm: str = "gradient_descent"
    """The algorithm that the network runs by default."""
    multiples: Mapping[str, int] = field(default_factory=dict)
    """Settings that have to be multiples of a number."""

    @property
    def takes_images(self) -> bool:
        return not (self.takes_vectors or self.takes_tokens)

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of the model: those of a caller, and the defaults of the others.

        Raises:
            MinimandError: a setting that the model does not have, or a value of another kind.
        """
        sizes = () if self.takes_tokens else ("num_classes", "in_channels")
        for name in settings:
            if name not in self.settings:
                raise unknown_name(f"setting of {self.name}", name, {*self.settings, *sizes})
        return {name: self._checked(name, settings.get(name, default)) for name, default in self.settings.items()}

    def _checked(self, name: str, value: Any) -> Setting:
        parameter = signature(self.build, eval_str=True).parameters.get(name)
        kinds = () if parameter is None else _kinds(parameter.annotation)
        if value is None and NoneType in kinds:
            return None
        texts = [kind for kind in kinds if isinstance(kind, str)]
        if texts:
            if value not in texts:
                raise MinimandError(f"{name} is {value!r}; expected one of {', '.join(map(repr, texts))}.")
            return value
        if isinstance(self.settings[name], bool):
            if not isinstance(value, bool):
                raise MinimandError(f"{name} is {value!r}; expected True or False.")
            return value
        return _probability(name, value) if isinstance(self.settings[name], float) else integer(name, value)


def _kinds(annotation: Any) -> list[Any]:
    """The alternatives of an annotation: its types, and the values of literals among them."""
    parts = get_args(annotation)
    return [kind for part in parts for kind in (get_args(part) if get_origin(part) is Literal else [part])]


def integer(name: str, value: Any, least: int = 1) -> int:
    """The value of what is called `name`; raises MinimandError if it is no integer, or a smaller one."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise MinimandError(f"{name} is {value!r}; expected an integer of at least {least}.")
    return number


def _probability(name: str, value: Any) -> float:
    probability = float(value) if isinstance(value, Real) and not isinstance(value, bool) else -1.0
    if not 0 <= probability < 1:
        raise MinimandError(f"{name} is {value!r}; expected a probability of at least 0 and less than 1.")
    return probability


def bound(branch: nn.Module, binding: Binding, activation: nn.Module | None = None) -> nn.Module:
    """The block T of a branch: itself under the residual binding, under the operator binding with its skip."""
    return branch if binding == "residual" else Skip(branch, nn.Identity(), activation or nn.Identity())


def shared(blocks: int, depths: Sequence[int]) -> list[int]:
    """Blocks for stages in the proportion of `depths`, each at least 1: the largest remainders are rounded up.

    Raises:
        MinimandError: fewer blocks than stages.
    """
    if blocks < len(depths):
        raise MinimandError(f"depth is {blocks}; expected at least {len(depths)}, a block for each stage.")
    exact = [blocks * depth / sum(depths) for depth in depths]
    counts = [max(1, int(share)) for share in exact]
    while sum(counts) != blocks:
        change = 1 if sum(counts) < blocks else -1
        i = max((i for i, n in enumerate(counts) if n + change > 0), key=lambda i: change * (exact[i] - counts[i]))
        counts[i] += change
    return counts


MODELS = Registry[ModelInfo](
    "model", "models", __package__ or "", instance_of(ModelInfo), about=lambda info: info.description
)
"""The named models: a family's file registers its models when it is imported, or a package by an entry point."""

CIFAR: dict[str, Any] = {"image_size": 32, "num_classes": 10}
"""Fields of the models for CIFAR-10."""


def register(info: ModelInfo) -> None:
    """Make a model known by its name."""
    MODELS.add(info.name, info)


def plain(name: str, *references: str, image_size: int, smallest: int = 1) -> Callable[[F], F]:
    """A decorator that makes a function of num_classes, in_channels and settings a model that is a plain sequence.

    The first line of its docstring is the description, and its defaults are the model's.
    """

    def register_function(build: F) -> F:
        defaults = {key: parameter.default for key, parameter in signature(build).parameters.items()}
        settings = {key: value for key, value in defaults.items() if key not in ("num_classes", "in_channels")}
        line = (build.__doc__ or "").partition("\n")[0].removesuffix(".")
        sizes = {"smallest": smallest, "image_size": image_size, "num_classes": defaults["num_classes"]}
        register(ModelInfo(name, line, build, settings, None, references, **sizes))
        return build

    return register_function


def model_info(name: str) -> ModelInfo:
    """The model of a name; a name with an algorithm's before it, as in `apg2_convnext_tiny`, runs that algorithm.

    Raises:
        MinimandError: there is none, which names the nearest, or it has no skeleton for the algorithm.
    """
    if name in MODELS:
        return MODELS[name]
    for prefix, algorithm in _prefixes().items():
        info = MODELS.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if info is not None:
            if info.binding is None:
                plain_model = without_skeleton(info)
                raise MinimandError(f"{name!r} names an algorithm, but {plain_model}; expected its name alone.")
            return replace(info, name=name, algorithm=algorithm)
    raise unknown_name("model", name, MODELS)


def without_skeleton(info: ModelInfo) -> str:
    """A clause for errors: that a model is a plain sequence, which runs no algorithm."""
    return f"{info.name} is a plain sequence of layers and has no skeleton"


def prefixed_names() -> list[str]:
    """Names with an algorithm's before them, of every algorithm that runs with learned blocks alone."""
    prefixes = [prefix for prefix, name in _prefixes().items() if _runs_alone(ALGORITHMS[name])]
    return [prefix + name for prefix in prefixes for name, info in MODELS.items() if info.binding is not None]


def _runs_alone(algorithm: type[Algorithm]) -> bool:
    return not any(is_proximal(o) or is_map(o) for o in algorithm.oracles)


def _prefixes() -> dict[str, str]:
    return {"apg2_": "nesterov_y", **{f"{name}_": name for name in ALGORITHMS}}
