"""What a named model is, and where families put their names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from ..algorithms import builtin
from ..names import unknown_name
from ..theory.kernel import Binding


@dataclass(frozen=True)
class Parts:
    """What a family makes a network from.

    Each stage is (transition, blocks); only the first may do without a transition, and blocks may be none.
    """

    stem: nn.Module
    stages: Sequence[tuple[nn.Module | None, Sequence[nn.Module]]]
    head: nn.Module

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
    settings: Mapping[str, int]
    """What a caller may set, with its defaults; positive integers."""
    binding: Binding
    references: tuple[str, ...]
    takes_vectors: bool = False
    """Whether a sample is a vector (images are flattened) and `in_channels` its length."""
    smallest: int = 1
    """The least side of an image that it takes, in pixels."""
    algorithm: str = "gradient_descent"
    """What the network runs if nothing else is asked for."""


_MODELS: dict[str, ModelInfo] = {}


def register(info: ModelInfo) -> None:
    """Make a model known by its name."""
    _MODELS[info.name] = info


def model_info(name: str) -> ModelInfo:
    """The model of a name; a name with an algorithm's before it, as in `apg2_convnext_tiny`, runs that algorithm.

    Raises:
        ValueError: there is none; names the nearest.
    """
    for prefix, algorithm in {"": None, "apg2_": "nesterov_y", **{f"{a}_": a for a in builtin}}.items():
        info = _MODELS.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if info is not None:
            return info if algorithm is None else replace(info, name=name, algorithm=algorithm)
    raise unknown_name("model", name, _MODELS)


def names() -> list[str]:
    """The names of all models, in the order of their families."""
    return list(_MODELS)
