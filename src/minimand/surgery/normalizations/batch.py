"""Batch normalization as a kind of `mm.normalize`."""

from torch import nn

from ..._support.torch.internals import BatchNorm
from . import NORMALIZATIONS, BetweenLayers, Place


@NORMALIZATIONS.register("batch")
class BatchNormalization(BetweenLayers):
    """Batch normalization: per channel over the batch and all positions (Ioffe & Szegedy 2015)."""

    references = ("ioffe2015batchnorm",)
    mixes_positions = True
    makes = (BatchNorm,)

    def module(self, place: Place) -> nn.Module:
        return place.over_positions((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
