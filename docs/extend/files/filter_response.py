"""Filter response normalization."""

import torch
from torch import Tensor, nn

from minimand.surgery.normalizations import NORMALIZATIONS, BetweenLayers, Place


class FilterResponseNorm(nn.Module):
    """Each channel of (N, C, ...) over the root of its mean square over the positions, times weight, plus bias."""

    def __init__(self, num_channels: int, eps: float = 1e-6, affine: bool = True) -> None:
        super().__init__()
        self.num_channels, self.eps = num_channels, eps
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.square().flatten(2).mean(2) + self.eps).view(*x.shape[:2], *(1,) * (x.ndim - 2))
        if self.weight is None or self.bias is None:
            return y
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return y * self.weight.view(shape) + self.bias.view(shape)


@NORMALIZATIONS.register("filter_response")
class FilterResponseNormalization(BetweenLayers):
    """Filter response: by the root mean square of a channel over the positions (Singh & Krishnan 2020)."""

    makes = (FilterResponseNorm,)

    def module(self, place: Place) -> nn.Module:
        return place.channels_first(place.like(FilterResponseNorm, place.channels))
