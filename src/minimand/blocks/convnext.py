"""The block of ConvNeXt (Liu et al. 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.stochastic_depth import DropPath
from .registry import block


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over the channels of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        rows = F.layer_norm(input.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return rows.permute(0, 3, 1, 2)


@block("convnext", (3, 4, 5, 5), channels=4, layer_scale=0.5)
class ConvNeXtBranch(nn.Module):
    """The block of ConvNeXt, T = gamma Linear(GELU(Linear(LayerNorm(depthwise 7 x 7)))): (N, C, H, W) to the same.

    Without `layer_scale`, the value that gamma starts with, there is no gamma; `drop_path` is the probability with
    which training drops T for a sample.
    """

    def __init__(self, channels: int, layer_scale: float | None = 1e-6, drop_path: float = 0.0) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale)) if layer_scale is not None else None
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand, self.activation = nn.Linear(channels, 4 * channels), nn.GELU()
        self.contract = nn.Linear(4 * channels, channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        rows = self.contract(self.activation(self.expand(rows)))
        if self.gamma is not None:
            rows = rows * self.gamma
        return self.drop_path(rows.permute(0, 3, 1, 2))
