"""Models made by name, or from a configuration."""

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from torch import nn

from .._support.errors import MinimandError, unknown_name
from .._support.names.calls import parse_call
from ..algorithms import Algorithm, as_algorithm
from ..data.data import Data
from ..networks.memory.choice import Memory
from ..theory.kernel import Binding
from .info import MODELS, model_info, prefixed_names, without_skeleton
from .named import PlainNetwork
from .network import UnrolledNetwork
from .own import is_own, make_own

OF_ANY_MODEL = ("normalization", "activation", "weight_bits", "parametrization", "memory", "exact")
"""The settings that a model's name may have beside the family's own."""


def list_models(pattern: str = "*") -> dict[str, str]:
    """A line about each model whose name matches a shell pattern, by name: `list_models("preact_*")`.

    Where none does, those with an algorithm's name before theirs: `list_models("apg2_*")`.
    """
    plain = {name: line for name, line in MODELS.lines().items() if fnmatch(name, pattern)}
    return plain or {name: model_info(name).description for name in prefixed_names() if fnmatch(name, pattern)}


def create_model(
    name: str,
    algorithm: Algorithm | type[Algorithm] | str | None = None,
    binding: Binding | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    normalization: str | Sequence[str] = (),
    parametrization: str | None = None,
    memory: Memory | None = None,
    exact: bool | None = None,
    **settings: Any,
) -> UnrolledNetwork | Any:
    """A named model: an `UnrolledNetwork`, or a `PlainNetwork` where it is a plain sequence without a skeleton.

    Args:
        name: one of `list_models()`, with an algorithm's name before it if that one is to run (`apg2_convnext_tiny`),
            and settings after it if you like (`resnet20(width=8)`).
        algorithm: an algorithm, its class, or its name with coefficients; by default what the model is known for,
            gradient descent for most.
        binding: how a block becomes a gradient; by default what the family is known for.
        num_classes: the length of the output, by default 1,000 for ImageNet's models and 10 for others; 0 for no
            classifier, so that an `UnrolledNetwork` gives its features. None of a model that takes tokens: its setting
            `num_tokens` is the size of the vocabulary, of inputs and outputs.
        in_channels: the channels of an image, 3 by default, or the numbers in a sample where the model takes vectors.
        normalization: kinds of `mm.normalize`, one after another; by default what the family is known for.
        parametrization: a scaling rule, "mup" or "complete_p", by which a learning rate fits any width, or any width,
            depth and skeleton: weights are those of `mm.initialize` by that name.
        memory: what stages keep for the backward pass, as `mm.unroll` takes it: "store" (the default), "checkpoint" or,
            of an algorithm that runs backwards in closed form, "reversible", whose memory is the same at any depth.
        exact: with "reversible", whether states are kept to the last bit; by default where rounding asks for it.
        **settings: the model's own, such as `width`; `model_info(name).settings` lists them. And `activation`, the
            name of a threshold such as "sign" or "quantized_relu(levels=4)", with `weight_bits`, 1, 2, 4 or 8 bits, as
            `mm.harden` takes them.

    Raises:
        MinimandError: unknown names, values that do not fit, an algorithm, a binding or a memory for a plain sequence.

    Example: `mm.create_model("resnet20", algorithm="heavy_ball(momentum=0.9)", num_classes=100)`.
    """
    name, settings_in_name = parse_call(name, "model")
    algorithm = None if algorithm is None else as_algorithm(algorithm)
    options = {"algorithm": algorithm, "binding": binding, "normalization": normalization or None}
    options |= {"parametrization": parametrization, "memory": memory, "exact": exact}
    options |= {"num_classes": num_classes, "in_channels": in_channels}
    config = {"model": name, **settings_in_name, **settings}
    return model_from_config(config | {option: value for option, value in options.items() if value is not None})


def model_from_config(config: Mapping[str, Any]) -> UnrolledNetwork | Any:
    """The model, with new weights, that the `config` of another describes; a file that text in it names is not run."""
    info = model_info(config["model"])
    if info.binding is not None:
        return UnrolledNetwork(**config)
    for option in ("algorithm", "binding", "memory", "exact"):
        if option in config:
            raise MinimandError(
                f"{option} is {str(config[option])!r}, but {without_skeleton(info)}; expected none, or another model."
            )
    return PlainNetwork(**config)


def default_model(data_shape: tuple[int, ...], tokens: bool = False) -> str:
    """The name of a small model for samples of a shape, or of tokens."""
    if tokens:
        return "gpt_nano"
    return "resnet20" if len(data_shape) == 3 else "mlp"


def model_for(
    name: str | Callable[..., nn.Module],
    data: Data,
    algorithm: Algorithm | type[Algorithm] | str | None = None,
    binding: Binding | None = None,
    weight_bits: int | None = None,
) -> UnrolledNetwork | Any:
    """The model of `create_for` for the samples of a data set."""
    is_text = data.is_text
    return create_for(name, data.shape, data.num_outputs, algorithm, binding, weight_bits, is_text)


def create_for(
    name: str | Callable[..., nn.Module],
    data_shape: tuple[int, ...],
    num_outputs: int,
    algorithm: Algorithm | type[Algorithm] | str | None = None,
    binding: Binding | None = None,
    weight_bits: int | None = None,
    tokens: bool = False,
) -> UnrolledNetwork | Any:
    """A model for samples of a shape: a named one, as `create_model` takes it, or one's own.

    Args:
        name: a name with settings; a class or function that makes a module, or text that names one in a file, as in
            "path/to/file.py:Net(width=64)". An algorithm rewires a model of one's own (`mm.rewire`).
        data_shape: (C, H, W) of images, (d,) of vectors, or (T,) of tokens.
        num_outputs: the number of classes, the length of a target, or the number of tokens that there are.
        tokens: whether a sample is tokens, T of them in a row.

    Raises:
        MinimandError: a model of images for vectors, or for text one of anything else; unknown names; settings that
            follow from the data.
    """
    if not isinstance(name, str) or is_own(name):
        for option, value in (("binding", binding), ("weight_bits", weight_bits)):
            if value is not None:
                raise MinimandError(f"{option} is {value!r}, but the model is your own; expected none: write it there.")
        return make_own(name, data_shape, num_outputs, algorithm, tokens)
    name, settings = parse_call(name, "model")
    info = model_info(name)
    known = (*info.settings, *OF_ANY_MODEL)
    if weight_bits is not None:
        settings["weight_bits"] = weight_bits
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of {name}", setting, known)
    if tokens != info.takes_tokens:
        kind = "takes tokens, but a sample is no text" if info.takes_tokens else "takes no tokens, but a sample is text"
        other = default_model(data_shape, tokens)
        raise MinimandError(f"{name} {kind} (its shape is {data_shape}); {other} takes it.")
    if tokens:
        settings = {"num_tokens": num_outputs, "context": data_shape[0], **settings}
        return create_model(name, algorithm, binding, **settings)
    if len(data_shape) != 3 and not info.takes_vectors:
        raise MinimandError(f"{name} takes images, but a sample has the shape {data_shape}; mlp takes vectors.")
    if len(data_shape) == 3 and min(data_shape[1:]) < info.smallest:
        least = f"{info.smallest} x {info.smallest}"
        raise MinimandError(f"{name} takes images of at least {least}, but a sample has the shape {data_shape}.")
    channels = math.prod(data_shape) if info.takes_vectors else data_shape[0]
    return create_model(name, algorithm, binding, num_outputs, channels, **settings)
