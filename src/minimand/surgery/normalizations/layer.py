"""Layer normalization as a kind of `mm.normalize`."""

from torch import nn

from . import NORMALIZATIONS, BetweenLayers, Place


@NORMALIZATIONS.register("layer")
class LayerNormalization(BetweenLayers):
    """Layer normalization: over the channels of each position, as in transformers and ConvNeXt (Ba et al. 2016)."""

    references = ("ba2016layernorm",)
    makes = (nn.LayerNorm,)

    def module(self, place: Place) -> nn.Module:
        return place.over_channels(nn.LayerNorm)
