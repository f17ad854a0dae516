"""Instance normalization as a kind of `mm.normalize`."""

from torch import nn

from ..._support.torch.internals import InstanceNorm
from ...layers.normalization import InstanceNormOfMaps
from . import NORMALIZATIONS, BetweenLayers, Place


@NORMALIZATIONS.register("instance")
class InstanceNormalization(BetweenLayers):
    """Instance normalization: per sample and channel over the positions (Ulyanov et al. 2016)."""

    references = ("ulyanov2016instancenorm",)
    mixes_positions = True
    makes = (InstanceNorm,)

    def module(self, place: Place) -> nn.Module:
        return place.over_positions((InstanceNormOfMaps, nn.InstanceNorm2d, nn.InstanceNorm3d))
