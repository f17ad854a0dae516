"""Our models of images in timm's registry, `timm.create_model("apg2_convnext_tiny")`, and timm's weights in ours."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from .._support.errors import MinimandError, WrongTypeError
from .info import MODELS, ModelInfo, model_info, prefixed_names
from .network import UnrolledNetwork
from .registry import create_model

Model = TypeVar("Model", bound=UnrolledNetwork)

default_cfgs: dict[str, Any] = {}
"""The settings of each model that timm takes from the module in which the model is registered, by name."""


def register_in_timm() -> None:
    """Register every unrolled model of images in timm, with an algorithm's name before it and without; timm's own stay.

    A plain sequence has no features, which timm asks of its models, and is not registered.
    A timm that does not take them is a warning: who imported it may not know of us.
    """
    try:
        from timm.models import generate_default_cfgs, is_model, register_model

        ours = {name: model_info(name) for name in [*MODELS, *prefixed_names()] if not is_model(name)}
        ours = {name: info for name, info in ours.items() if info.binding is not None and info.takes_images}
        default_cfgs.update(generate_default_cfgs({name: _timm_config(info) for name, info in ours.items()}))
        for name in ours:
            register_model(_entry(name))
    except Exception as error:
        warnings.warn(f"minimand's models are not in timm's registry: {type(error).__name__}: {error}", stacklevel=2)


def _timm_config(info: ModelInfo) -> dict[str, Any]:
    return {
        "input_size": (3, info.image_size, info.image_size),
        "fixed_input_size": "image_size" in info.settings,
        "num_classes": info.num_classes,
    }


def _entry(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        from timm.models import build_model_with_cfg

        if options.get("features_only"):
            options.setdefault("out_indices", _default_indices(name))
        features = {"feature_cls": "getter"}
        return build_model_with_cfg(partial(_create, name), name, pretrained, feature_cfg=features, **options)

    create.__name__ = create.__qualname__ = name
    return create


def _create(
    name: str,
    num_classes: int,
    in_chans: int,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    img_size: int | tuple[int, int] | None = None,
    **settings: Any,
) -> UnrolledNetwork:
    """A model from timm's names for its settings; those that it does not have may be what changes nothing."""
    if drop_rate:
        raise MinimandError(f"drop_rate is {drop_rate}; expected 0: {name} has no dropout before its classifier.")
    if drop_path_rate:
        settings["drop_path"] = drop_path_rate
    if img_size is not None:
        sides = {img_size} if isinstance(img_size, int) else set(img_size)
        if len(sides) > 1:
            raise MinimandError(f"img_size is {img_size}; expected a square: {name} takes no other.")
        settings["image_size"] = sides.pop()
    return create_model(name, num_classes=num_classes, in_channels=in_chans, **settings)


def _default_indices(name: str) -> int:
    """The default number of features: one for every stage, or as timm's transformers have it one for three layers."""
    with torch.device("meta"):
        stages = len(create_model(name, "gradient_descent").stages)
    return stages if stages > 1 else 3


@torch.no_grad()
def from_timm(model: Model, timm_model: nn.Module) -> Model:
    """Copy the weights of a timm model into one of ours, in place.

    Both models hold the same tensors in the same order, of the same shapes (a 1 x 1 convolution counts as linear).
    With gradient descent the logits are then the same. Learnable coefficients stay as they are.

    Raises:
        MinimandError: another architecture; names the first tensor that does not fit. Nothing is copied then.
    """
    if not isinstance(model, UnrolledNetwork):
        raise WrongTypeError(f"model is {type(model).__name__}; expected an mm.UnrolledNetwork of mm.create_model.")
    if not isinstance(timm_model, nn.Module):
        raise WrongTypeError(f"timm_model is {type(timm_model).__name__}; expected a model of timm.")
    ours = {name: value for name, value in model.state_dict().items() if ".coefficients." not in name}
    theirs: dict[str, Any] = timm_model.state_dict()
    differs = f"{model.info.name} is not the architecture of {type(timm_model).__name__}"
    for (name, value), (their_name, their_value) in zip(ours.items(), theirs.items(), strict=False):
        if _shape(value) != _shape(their_value):
            raise MinimandError(
                f"{differs}: {name} has the shape {tuple(value.shape)}, timm's {their_name} "
                f"{tuple(their_value.shape)}. num_classes here is {model.num_classes}."
            )
    if len(ours) != len(theirs):
        raise MinimandError(f"{differs}: it has {len(ours)} tensors, timm's model {len(theirs)}.")
    for value, their_value in zip(ours.values(), theirs.values(), strict=True):
        value.copy_(their_value.reshape(value.shape))
    return model


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    return shape[:2] if shape[2:] == (1, 1) else shape
