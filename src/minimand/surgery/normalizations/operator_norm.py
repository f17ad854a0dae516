"""Normalization by the norm of a convolution as a map of images."""

from torch import nn

from ..._support.torch.internals import ConvTransposeNd
from ...layers.normalized_weight import operator_norm
from . import NORMALIZATIONS
from .spectral import SpectralNormalization


@NORMALIZATIONS.register("operator_norm")
class OperatorNormalization(SpectralNormalization):
    """Spectral normalization by the norm of a convolution as a map of images; linear layers by their matrix."""

    def why_not(self, layer: nn.Module) -> str:
        transposed = f"{type(layer).__name__} is transposed" if isinstance(layer, ConvTransposeNd) else ""
        return transposed or super().why_not(layer)

    def parametrize(self, layer: nn.Module) -> None:
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            operator_norm(layer)
        else:
            super().parametrize(layer)
