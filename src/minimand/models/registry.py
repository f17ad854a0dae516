"""Models by name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..algorithms import Algorithm
from ..calls import parse_call
from ..names import unknown_name
from ..theory.kernel import Binding
from .mlp import mlp
from .network import Parts, UnrolledNetwork
from .resnet import resnet


@dataclass(frozen=True)
class ModelInfo:
    """A named model: how it is built, and what a person wants to know before choosing it."""

    name: str
    description: str
    build: Callable[..., Parts]
    settings: Mapping[str, Any]
    binding: Binding
    references: tuple[str, ...]
    takes_vectors: bool = field(default=False)
    """Whether a sample is a vector (images are flattened) and `in_channels` its length."""


def _resnets() -> list[ModelInfo]:
    variants: tuple[tuple[str, bool, Binding, str, str], ...] = (
        ("resnet", False, "operator", "post-activation; T is the whole block", "he2016resnet"),
        ("preact_resnet", True, "residual", "pre-activation; T is the branch", "he2016identity"),
    )
    found = []
    for depth in (20, 32, 44, 56, 110):
        for prefix, preactivation, binding, what, reference in variants:
            found.append(
                ModelInfo(
                    f"{prefix}{depth}",
                    f"CIFAR ResNet of {depth} layers, {what}",
                    partial(resnet, depth=depth, preactivation=preactivation, projection=False),
                    {"width": 16},
                    binding,
                    (reference,),
                )
            )
    for depth, widening in ((16, 4), (28, 4)):
        found.append(
            ModelInfo(
                f"wrn{depth}_{widening}",
                f"wide ResNet of {depth} layers, {widening} times as wide, pre-activation; T is the branch",
                partial(resnet, depth=depth, widening=widening, preactivation=True, projection=True),
                {"width": 16},
                "residual",
                ("zagoruyko2016wide",),
            )
        )
    return found


_MODELS: dict[str, ModelInfo] = {
    info.name: info
    for info in [
        ModelInfo(
            "mlp",
            "fully connected; T is a two-layer map (residual binding) or act(W x) (operator binding)",
            mlp,
            {"width": 64, "depth": 8, "hidden": 64},
            "residual",
            ("wu2024optdnn", "li2018optimization"),
            takes_vectors=True,
        ),
        *_resnets(),
    ]
}


def find(name: str) -> ModelInfo:
    """The model of a name; raises ValueError with the nearest one."""
    if name not in _MODELS:
        raise unknown_name("model", name, _MODELS)
    return _MODELS[name]


def list_models(pattern: str = "*") -> list[str]:
    """The names of the models that match a shell pattern: `list_models("preact_*")`."""
    from fnmatch import fnmatch

    return [name for name in _MODELS if fnmatch(name, pattern)]


def model_info(name: str) -> ModelInfo:
    """How a named model is built, and its references."""
    return find(name)


def create_model(
    name: str,
    algorithm: Algorithm | type[Algorithm] | str = "gradient_descent",
    binding: Binding | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    **settings: Any,
) -> UnrolledNetwork:
    """A named model with an algorithm for its skeleton.

    Args:
        name: one of `list_models()`.
        algorithm: an algorithm, its class, or its name with coefficients.
        binding: how a block becomes a gradient; by default what the family is known for.
        num_classes: the length of the output.
        in_channels: the channels of an image, or the numbers in a sample where the model takes vectors.
        **settings: the model's own, such as `width`; `model_info(name).settings` lists them.

    Example: `mm.create_model("resnet20", algorithm="heavy_ball(momentum=0.9)", num_classes=100)`.
    """
    return UnrolledNetwork(name, algorithm, binding, num_classes, in_channels, **settings)


def default_model(data_shape: tuple[int, ...]) -> str:
    """The name of a small model for samples of a shape."""
    return "resnet20" if len(data_shape) == 3 else "mlp"


def create_for(
    name: str,
    data_shape: tuple[int, ...],
    num_outputs: int,
    algorithm: Algorithm | type[Algorithm] | str = "gradient_descent",
    binding: Binding | None = None,
) -> UnrolledNetwork:
    """A named model whose input and output fit samples of a shape.

    Args:
        name: a model's name, with settings if need be: `"mlp(width=32)"`.
        data_shape: (C, H, W) of images or (d,) of vectors.
        num_outputs: the number of classes, or the length of a target.
        algorithm, binding: as for `create_model`.

    Raises:
        ValueError: a model of images for vectors; unknown names.
    """
    name, settings = parse_call(name, "model")
    info = find(name)
    if len(data_shape) != 3 and not info.takes_vectors:
        raise ValueError(f"{name} takes images, but a sample has the shape {data_shape}; mlp takes vectors.")
    channels = math.prod(data_shape) if info.takes_vectors else data_shape[0]
    return create_model(name, algorithm, binding, num_outputs, channels, **settings)
