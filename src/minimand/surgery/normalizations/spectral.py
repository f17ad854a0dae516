"""Spectral normalization as a kind of `mm.normalize`."""

import torch
from torch import nn
from torch.nn.utils import parametrizations

from . import NORMALIZATIONS, OfWeights


@NORMALIZATIONS.register("spectral")
class SpectralNormalization(OfWeights):
    """Spectral normalization: divided by the largest singular value of the weight as a matrix (Miyato et al. 2018)."""

    references = ("miyato2018spectralnorm",)

    def parametrize(self, layer: nn.Module) -> None:
        cuda = list({p.device for p in layer.parameters() if p.device.type == "cuda"})
        with torch.random.fork_rng(cuda):  # its first vectors are drawn
            parametrizations.spectral_norm(layer)
