"""Views of test images whose outputs are averaged."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ...data import Data, call, tensor_of
from ...recipes.recipe import TestViews

_SHIFTED = 2  # two views are an image and its mirror image; only more are shifted too


def check_views(views: Any, data: Data, name: str) -> None:
    """Raise MinimandError for another number of views than there are, or several of what are no images."""
    if views not in (1, 2, 6):
        raise MinimandError(f"{name} is {views!r}; expected 1, 2 or 6.")
    if views != 1 and len(data.shape) != 3:
        raise MinimandError(
            f"{name} is {views}, but a sample of {data.name} has the shape {data.shape}; expected images, (channels, "
            "height, width), or 1."
        )
    if views > _SHIFTED and min(data.shape[1:]) < 2:  # a shifted image is reflected at its edges
        raise MinimandError(
            f"{name} is {views}, but the images of {data.name} are {data.shape[1]} x {data.shape[2]}; expected two "
            "pixels each way at least to shift them by one, or 1 or 2 views."
        )


def call_on_views(model: nn.Module, x: Any, views: TestViews) -> Any:
    """The model's outputs for a batch of images, averaged over views of them as tensors; as they are for one view."""
    if views == 1:
        return call(model, x)

    def mirrored(images: Tensor) -> Tensor:
        return (tensor_of(call(model, images)).float() + tensor_of(call(model, images.flip(-1))).float()) / 2

    outputs = mirrored(x)
    if views <= _SHIFTED:
        return outputs
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    height, width = x.shape[2:]
    up_left, down_right = padded[:, :, :height, :width], padded[:, :, 2:, 2:]
    return outputs / 2 + (mirrored(up_left) + mirrored(down_right)) / 4
