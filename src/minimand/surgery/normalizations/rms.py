"""Root mean square normalization, without the mean (Zhang & Sennrich 2019)."""

from torch import nn

from . import NORMALIZATIONS, BetweenLayers, Place


@NORMALIZATIONS.register("rms")
class RMSNormalization(BetweenLayers):
    """RMS normalization: by the root mean square of the channels of each position (Zhang & Sennrich 2019)."""

    references = ("zhang2019rmsnorm",)
    makes = (nn.RMSNorm,)

    def module(self, place: Place) -> nn.Module:
        return place.over_channels(nn.RMSNorm)
