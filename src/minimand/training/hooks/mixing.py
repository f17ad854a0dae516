"""Mixup and CutMix: samples mixed with one another, and their targets alike."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._support.errors import MinimandError
from ..loop.state_batch import StateBatch
from ..loop.training import Training
from .hook import HOOKS, Hook, check_images


@dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019) of a batch, with the parameters of a `Recipe`."""

    classes: int
    mixup: float
    cutmix: float

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(N, ...) with classes (N,) to the same shape with shares of classes (N, classes)."""
        if self.cutmix and (not self.mixup or float(torch.rand(())) < 0.5):
            mixed, share = _cutmix(x, _share(self.cutmix))
        else:
            share = _share(self.mixup)
            mixed = torch.lerp(x.roll(1, 0), x, share)
        own = F.one_hot(y, self.classes).to(x.dtype)
        return mixed, torch.lerp(own.roll(1, 0), own, share)


@HOOKS.register("mixing")
class MixingHook(Hook):
    """Mixes the samples of each batch (`Recipe.mixup`, `Recipe.cutmix`)."""

    hides_accuracy = True

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        recipe = training.recipe
        self.mixing = Mixing(training.data.num_outputs, recipe.mixup, recipe.cutmix)

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        recipe, data = training.recipe, training.data
        if recipe.cutmix:
            check_images("cutmix", data, recipe.cutmix, " Mixup is for samples of any shape.")
        return bool(recipe.mixup or recipe.cutmix)

    def mix(self, x: Any, y: Tensor) -> tuple[Any, Tensor]:
        if isinstance(x, StateBatch):  # states were mixed as inputs
            return x, y
        if not isinstance(x, Tensor) or y.ndim != 1:
            what = (
                f"targets of the shape {tuple(y.shape)}" if isinstance(x, Tensor) else f"inputs in a {type(x).__name__}"
            )
            raise MinimandError(
                f"Recipe.mixup and Recipe.cutmix mix one tensor of inputs and classes (N,), and a batch has {what}; "
                "expected both to be 0."
            )
        return self.mixing(x, y)


def _share(parameter: float) -> float:
    return float(torch.distributions.Beta(parameter, parameter).sample())


def _cutmix(images: Tensor, share: float) -> tuple[Tensor, float]:
    """Other images with a rectangle of each image, of this share of the area before it is clipped; and the share."""
    height, width = images.shape[-2:]
    (top, bottom), (left, right) = _side(height, share**0.5), _side(width, share**0.5)
    mixed = images.roll(1, 0)
    mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right]
    return mixed, (bottom - top) * (right - left) / (height * width)


def _side(length: int, fraction: float) -> tuple[int, int]:
    centre, size = int(torch.randint(length, ())), int(length * fraction)
    return max(centre - size // 2, 0), min(centre + (size + 1) // 2, length)
