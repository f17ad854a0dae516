"""Weight normalization as a kind of `mm.normalize`."""

from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrizations

from ..._support.torch_internals import ConvTransposeNd, remove_weight_parametrization
from . import NORMALIZATIONS, OfWeights


@NORMALIZATIONS.register("weight")
class WeightNormalization(OfWeights):
    """Weight normalization: a length and a direction; the network is the same at first (Salimans & Kingma 2016)."""

    references = ("salimans2016weightnorm",)

    def parametrize(self, layer: nn.Module) -> None:
        parametrizations.weight_norm(layer, dim=1 if isinstance(layer, ConvTransposeNd) else 0)

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
