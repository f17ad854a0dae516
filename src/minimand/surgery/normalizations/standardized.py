"""Weight standardization as a kind of `mm.normalize`."""

from dataclasses import dataclass
from typing import cast

from torch import nn

from ..._support.checks import check_number
from ..._support.torch.internals import ConvTransposeNd
from ...layers.normalized_weight import weight_standardization
from . import NORMALIZATIONS, OfWeights


@NORMALIZATIONS.register("standardized")
@dataclass(frozen=True)
class WeightStandardization(OfWeights):
    """Weight standardization: mean 0 and variance 1 / fan-in for each filter, with a learned gain (Qiao et al. 2019).

    `standardized(gamma=1.7128585)` is for layers after ReLU where no normalization follows (Brock et al. 2021).
    """

    references = ("qiao2019standardization", "brock2021signal")

    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, 0, float("inf"), below=True)

    def why_not(self, layer: nn.Module) -> str:
        if isinstance(layer, ConvTransposeNd):
            return f"{type(layer).__name__} is transposed"
        return "filters of one weight would be 0" if cast(nn.Linear, layer).weight[0].numel() < 2 else ""

    def parametrize(self, layer: nn.Module) -> None:
        weight_standardization(cast(nn.Linear, layer), self.gamma)
