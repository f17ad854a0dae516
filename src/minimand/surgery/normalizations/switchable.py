"""Switchable normalization, which learns how to weigh the statistics of instance, layer and batch."""

from torch import nn

from ...layers.normalization import SwitchNorm
from . import NORMALIZATIONS, BetweenLayers, Place


@NORMALIZATIONS.register("switchable")
class SwitchableNormalization(BetweenLayers):
    """Switchable normalization: a learned mixture of instance, layer and batch (Luo et al. 2018)."""

    references = ("luo2018switchable",)
    mixes_positions = True
    makes = (SwitchNorm,)

    def module(self, place: Place) -> nn.Module:
        return place.channels_first(place.like(SwitchNorm, place.channels))
