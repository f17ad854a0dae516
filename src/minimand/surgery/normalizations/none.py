"""No normalization as a kind of `mm.normalize`."""

from torch import nn

from . import NORMALIZATIONS, BetweenLayers, Place


@NORMALIZATIONS.register("none")
class NoNormalization(BetweenLayers):
    """No normalization at all, not even weight and bias; modules that work in place no longer do."""

    def module(self, place: Place) -> nn.Module:
        return nn.Identity()
