"""The models of images in timm's registry: `timm.create_model("apg2_convnext_tiny")`."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .._support.errors import MinimandError
from .info import MODELS, ModelInfo, model_info, prefixed_names
from .network import UnrolledNetwork
from .registry import create_model

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
        ours = {name: info for name, info in ours.items() if info.binding is not None and not info.takes_vectors}
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
