"""Weight normalization as a kind of `mm.normalize`."""

from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrizations

from ..._support.torch.internals import ConvTransposeNd, remove_weight_parametrization
from . import NORMALIZATIONS, OfWeights


@NORMALIZATIONS.register("weight")
class WeightNormalization(OfWeights):
    """Weight normalization: a length and a direction; the network is the same at first (Salimans & Kingma 2016)."""

    references = ("salimans2016weightnorm",)

    @torch.no_grad()
    def parametrize(self, layer: nn.Module) -> None:
        axis = 1 if isinstance(layer, ConvTransposeNd) else 0
        parametrizations.weight_norm(layer, dim=axis)
        parametrized = cast(Any, layer).parametrizations.weight
        length, direction = parametrized.original0, parametrized.original1
        others = tuple(i for i in range(direction.ndim) if i != axis)
        # A filter of length 0 has no direction: it gets one, and stays 0. One too small or too large to be squared is
        # scaled before.
        generator = torch.Generator().manual_seed(0)
        largest = direction.abs().amax(others, keepdim=True)
        drawn = torch.randn(direction.shape, generator=generator).to(direction)
        scaled = torch.where(largest > 0, direction / largest, drawn)
        sound = (length > torch.finfo(length.dtype).tiny ** 0.5) & length.isfinite()
        length.copy_(torch.where(sound, length, largest * torch.linalg.vector_norm(scaled, dim=others, keepdim=True)))
        direction.copy_(torch.where(sound, direction, scaled))

    @torch.no_grad()
    def remove(self, layer: nn.Module) -> None:
        (norm,) = parametrized = cast(Any, layer).parametrizations.weight
        length, direction = parametrized.original0, parametrized.original1
        # A direction that still has this length is the weight itself, to the bit.
        untouched, real = length == norm.right_inverse(direction)[0], direction.detach().clone()
        learns = length.requires_grad
        remove_weight_parametrization(layer, keep_computed=True)
        computed = cast(torch.Tensor, layer.weight).detach()
        del layer.weight
        layer.weight = nn.Parameter(torch.where(untouched, real, computed), learns)
