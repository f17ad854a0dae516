"""Spectral normalization as a kind of `mm.normalize`."""

from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrizations

from . import NORMALIZATIONS, OfWeights

# Torch takes vectors shorter than 1e-12 for 0, and squares overflow: outside of this the norm is not found.
_SMALLEST, _LARGEST = 1e-9, 1e12


@NORMALIZATIONS.register("spectral")
class SpectralNormalization(OfWeights):
    """Spectral normalization: divided by the largest singular value of the weight as a matrix (Miyato et al. 2018)."""

    references = ("miyato2018spectralnorm",)

    def why_not(self, layer: nn.Module) -> str:
        largest = float(cast(nn.Linear, layer).weight.detach().abs().max())
        nothing = (
            f"its weight is 0 (the largest entry is {largest:.3g}), and so is the norm that it would be divided by"
        )
        if largest > _LARGEST:
            return f"its weight is too large to find its norm: the largest entry is {largest:.3g}"
        return nothing if largest < _SMALLEST else ""

    def parametrize(self, layer: nn.Module) -> None:
        cuda = list({p.device for p in layer.parameters() if p.device.type == "cuda"})
        # torch draws the first vectors, which must not move the caller's random state.
        with torch.random.fork_rng(cuda):
            parametrizations.spectral_norm(layer)
