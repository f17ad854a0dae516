"""The models of images in timm's registry: `timm.create_model("apg2_convnext_tiny")`."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .._support.errors import MinimandError
from .info import model_info, names, prefixed_names
from .network import UnrolledNetwork
from .registry import create_model

default_cfgs: dict[str, Any] = {}
"""What timm takes from the module of a model that it registers."""


def register_in_timm() -> None:
    """Register every model of images in timm, with an algorithm's name before it and without; timm's own stay.

    A timm that does not take them is a warning: who imported it may not know of us.
    """
    try:
        from timm.models import generate_default_cfgs, is_model, register_model

        found = {name: model_info(name) for name in [*names(), *prefixed_names()] if not is_model(name)}
        found = {name: info for name, info in found.items() if not info.takes_vectors}
        default_cfgs.update(
            generate_default_cfgs(
                {
                    name: {
                        "input_size": (3, info.image_size, info.image_size),
                        "fixed_input_size": "image_size" in info.settings,
                    }
                    for name, info in found.items()
                }
            )
        )
        for name in found:
            register_model(_entry(name))
    except Exception as error:
        warnings.warn(f"minimand's models are not in timm's registry: {type(error).__name__}: {error}", stacklevel=2)


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
    """How many features are given if nothing is said: of every stage, or as timm's transformers do of three layers."""
    with torch.device("meta"):
        stages = len(create_model(name, "gradient_descent").stages)
    return stages if stages > 1 else 3
