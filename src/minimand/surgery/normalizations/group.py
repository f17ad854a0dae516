"""Group normalization as a kind of `mm.normalize`."""

from dataclasses import dataclass

from torch import nn

from ..._support.checks import check_number
from . import NORMALIZATIONS, BetweenLayers, Place


@NORMALIZATIONS.register("group")
@dataclass(frozen=True)
class GroupNormalization(BetweenLayers):
    """Group normalization: per sample over `groups` groups of channels (Wu & He 2018)."""

    references = ("wu2018groupnorm",)
    mixes_positions = True
    makes = (nn.GroupNorm,)

    groups: int = 32

    def __post_init__(self) -> None:
        check_number("groups", self.groups, 1, float("inf"), whole=True)

    def module(self, place: Place) -> nn.Module:
        return place.channels_first(place.like(nn.GroupNorm, self.groups, place.channels))
