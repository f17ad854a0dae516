"""What a named model is, and where families put their names."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from torch import Tensor, nn

from .._support.errors import MinimandError, unknown_name
from ..algorithms._algorithm import is_proximal
from ..algorithms._registry import builtin
from ..theory.kernel import Binding


@dataclass(frozen=True)
class Parts:
    """What a family makes a network from.

    Each stage is (transition, blocks); only the first may do without a transition, and blocks may be none.
    """

    stem: nn.Module
    stages: Sequence[tuple[nn.Module | None, Sequence[nn.Module]]]
    head: nn.Sequential
    """Normalization if need be, pooling, and last the classifier, a Linear."""
    as_map: Callable[[Tensor], Tensor] | None = None
    """Where the blocks work on something else: their state as (N, C, H, W)."""

    @property
    def modules(self) -> list[nn.Module]:
        """All that there are."""
        stages = [module for change, blocks in self.stages for module in (change, *blocks) if module is not None]
        return [self.stem, self.head, *stages]


@dataclass(frozen=True)
class ModelInfo:
    """A named model: how it is built, and what a person wants to know before choosing it."""

    name: str
    description: str
    build: Callable[..., Parts]
    settings: Mapping[str, int | float]
    """What a caller may set, with its defaults: positive integers, and as floats probabilities below 1."""
    binding: Binding
    references: tuple[str, ...]
    takes_vectors: bool = False
    """Whether a sample is a vector (images are flattened) and `in_channels` its length."""
    smallest: int = 1
    """The least side of an image that it takes, in pixels."""
    image_size: int = 224
    """The side of the images that it was made for, in pixels."""
    algorithm: str = "gradient_descent"
    """What the network runs if nothing else is asked for."""
    multiples: Mapping[str, int] = field(default_factory=dict)
    """Settings that have to be multiples of a number."""

    def complete(self, settings: Mapping[str, Any]) -> dict[str, int | float]:
        """The settings, with the defaults of those that are not given.

        Raises:
            ValueError: one that the model does not have, or a value of another kind.
        """
        for name in settings:
            if name not in self.settings:
                raise unknown_name(f"setting of {self.name}", name, {*self.settings, "num_classes", "in_channels"})
        return {name: _setting(name, settings.get(name, value), value) for name, value in self.settings.items()}


def integer(name: str, value: Any, least: int = 1) -> int:
    """The value of what is called `name`; raises ValueError if it is no integer, or a smaller one."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise MinimandError(f"{name} is {value!r}; expected an integer of at least {least}.")
    return number


def shared(blocks: int, depths: Sequence[int]) -> list[int]:
    """Blocks for stages in the proportion of `depths`, each at least 1: the largest remainders are rounded up.

    Raises:
        ValueError: fewer blocks than stages.
    """
    if blocks < len(depths):
        raise MinimandError(f"depth is {blocks}; expected at least {len(depths)}, a block for each stage.")
    exact = [blocks * depth / sum(depths) for depth in depths]
    found = [max(1, int(share)) for share in exact]
    while sum(found) != blocks:
        change = 1 if sum(found) < blocks else -1
        i = max((i for i, n in enumerate(found) if n + change > 0), key=lambda i: change * (exact[i] - found[i]))
        found[i] += change
    return found


def _setting(name: str, value: Any, default: float) -> float:
    if not isinstance(default, float):
        return integer(name, value)
    probability = float(value) if isinstance(value, Real) and not isinstance(value, bool) else -1.0
    if not 0 <= probability < 1:
        raise MinimandError(f"{name} is {value!r}; expected a probability of at least 0 and less than 1.")
    return probability


_MODELS: dict[str, ModelInfo] = {}
_PREFIXES = {"apg2_": "nesterov_y", **{f"{name}_": name for name in builtin}}


def register(info: ModelInfo) -> None:
    """Make a model known by its name."""
    _MODELS[info.name] = info


def model_info(name: str) -> ModelInfo:
    """The model of a name; a name with an algorithm's before it, as in `apg2_convnext_tiny`, runs that algorithm.

    Raises:
        ValueError: there is none; names the nearest.
    """
    for prefix, algorithm in {"": None, **_PREFIXES}.items():
        info = _MODELS.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if info is not None:
            return info if algorithm is None else replace(info, name=name, algorithm=algorithm)
    raise unknown_name("model", name, _MODELS)


def names() -> list[str]:
    """The names of all models, in the order of their families."""
    return list(_MODELS)


def prefixed_names() -> list[str]:
    """The same with an algorithm's name before them, of every algorithm that runs with learned blocks alone."""
    runs = [prefix for prefix, name in _PREFIXES.items() if not any(map(is_proximal, builtin[name].oracles))]
    return [prefix + name for prefix in runs for name in _MODELS]
