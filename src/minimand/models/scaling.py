"""Compound scaling (Tan & Le 2019): depth, width and resolution of a model grow together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._support.checks import check_number
from .._support.errors import MinimandError
from .._support.names.calls import parse_call
from .info import model_info

_WIDTHS = ("width", "hidden", "growth")


@dataclass(frozen=True)
class Scaled:
    """A model of another size; as text a name with settings: `resnet50(depth=19, width=70)`."""

    name: str
    settings: Mapping[str, Any]
    """All settings of the model, for `mm.create_model(name, **settings)`."""
    image_size: int | None
    """The side of the images that the model is for, in pixels; None where it takes no images."""

    def __str__(self) -> str:
        defaults = model_info(self.name).settings
        changed = ", ".join(f"{name}={value}" for name, value in self.settings.items() if value != defaults[name])
        return f"{self.name}({changed})" if changed else self.name


def scale(name: str, phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15) -> Scaled:
    """A named model with alpha^phi times the blocks, beta^phi times the width and gamma^phi times the image's side.

    The operations grow by about (alpha beta^2 gamma^2)^phi, with the defaults 1.92^phi; in a DenseNet by up to
    another alpha^phi, as its layers read all earlier ones; a model of vectors has no gamma. Numbers are rounded to the
    nearest that the model takes. The defaults are EfficientNet's, found for its blocks.

    A name may have settings: `"mlp(width=32)"`. With phi = 0 the model stays as it is, a negative one makes it smaller.

    Raises:
        MinimandError: an unknown name or setting, a model of fixed depth, no finite number, or a base below 1.
    """
    check_number("phi", phi, -math.inf, math.inf, below=True)
    for base, value in {"alpha": alpha, "beta": beta, "gamma": gamma}.items():
        check_number(base, value, 1, math.inf, below=True)
    name, settings_in_name = parse_call(name, "model")
    info = model_info(name)
    if "depth" not in info.settings:
        raise MinimandError(f"{name} has a fixed number of layers; expected a model with a depth, such as resnet20.")
    settings: dict[str, Any] = dict(info.complete(settings_in_name))
    factors = {"depth": alpha**phi, "image_size": gamma**phi, **dict.fromkeys(_WIDTHS, beta**phi)}

    def scaled(setting: str, value: float) -> int:
        multiple = info.multiples.get(setting, 1)
        return multiple * max(1, round(value * factors[setting] / multiple))

    settings |= {setting: scaled(setting, value) for setting, value in settings.items() if setting in factors}
    side = settings.get("image_size") or scaled("image_size", info.image_size)
    return Scaled(name, settings, int(side) if info.takes_images else None)
