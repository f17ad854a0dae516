"""Models by name."""

import math
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import import_module
from typing import Any

from .._support.calls import parse_call
from .._support.errors import MinimandError, unknown_name
from ..algorithms._algorithm import Algorithm
from ..algorithms._registry import as_algorithm
from ..theory.kernel import Binding
from .info import model_info, names, prefixed_names
from .network import UnrolledNetwork

# Families register their names, and are listed in this order.
for _family in ("mlp", "resnet", "imagenet_resnet", "densenet", "convnext", "vit", "vgg"):
    import_module(f"{__package__}.{_family}")


def list_models(pattern: str = "*") -> dict[str, str]:
    """A line about each model whose name matches a shell pattern, by name: `list_models("preact_*")`.

    Where none does, those with an algorithm's name before theirs: `list_models("apg2_*")`.
    """
    plain = [name for name in names() if fnmatch(name, pattern)]
    matching = plain or [name for name in prefixed_names() if fnmatch(name, pattern)]
    return {name: model_info(name).description for name in matching}


def create_model(
    name: str,
    algorithm: Algorithm | type[Algorithm] | str | None = None,
    binding: Binding | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    normalization: str | Sequence[str] = (),
    **settings: Any,
) -> UnrolledNetwork:
    """A named model with an algorithm for its skeleton.

    Args:
        name: one of `list_models()`, with an algorithm's name before it if that one is to run (`apg2_convnext_tiny`),
            and settings after it if you like (`resnet20(width=8)`).
        algorithm: an algorithm, its class, or its name with coefficients; by default what the model is known for,
            gradient descent for most.
        binding: how a block becomes a gradient; by default what the family is known for.
        num_classes: the length of the output; 0 for no classifier, so that the output is the features.
        in_channels: the channels of an image, or the numbers in a sample where the model takes vectors.
        normalization: kinds of `mm.normalize`, one after another; by default what the family is known for.
        **settings: the model's own, such as `width`; `model_info(name).settings` lists them. And `activation`, the
            name of a threshold such as "sign" or "quantized_relu(levels=4)", with `weight_bits`, 1, 2, 4 or 8 bits, as
            `mm.harden` takes them.

    Example: `mm.create_model("resnet20", algorithm="heavy_ball(momentum=0.9)", num_classes=100)`.
    """
    name, given = parse_call(name, "model")
    settings = {**given, **settings}
    normalization = normalization or settings.pop("normalization", ())
    chosen = None if algorithm is None else as_algorithm(algorithm)
    return UnrolledNetwork(name, chosen, binding, num_classes, in_channels, normalization, **settings)


def default_model(data_shape: tuple[int, ...]) -> str:
    """The name of a small model for samples of a shape."""
    return "resnet20" if len(data_shape) == 3 else "mlp"


def create_for(
    name: str,
    data_shape: tuple[int, ...],
    num_outputs: int,
    algorithm: Algorithm | type[Algorithm] | str | None = None,
    binding: Binding | None = None,
) -> UnrolledNetwork:
    """A named model whose input and output fit samples of a shape.

    Args:
        name: a model's name, with settings if need be: `"mlp(width=32)"`.
        data_shape: (C, H, W) of images or (d,) of vectors.
        num_outputs: the number of classes, or the length of a target.
        algorithm: as for `create_model`.
        binding: as for `create_model`.

    Raises:
        ValueError: a model of images for vectors; unknown names; settings that follow from the data.
    """
    name, settings = parse_call(name, "model")
    info = model_info(name)
    known = (*info.settings, "normalization", "activation", "weight_bits")
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of {name}", setting, known)
    if len(data_shape) != 3 and not info.takes_vectors:
        raise MinimandError(f"{name} takes images, but a sample has the shape {data_shape}; mlp takes vectors.")
    channels = math.prod(data_shape) if info.takes_vectors else data_shape[0]
    return create_model(name, algorithm, binding, num_outputs, channels, **settings)
