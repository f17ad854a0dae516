"""Stochastic depth (Huang et al. 2016), also called drop-path."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn


# As a kind of dropout it is known to whatever asks what a block contains.
class DropPath(nn.modules.dropout._DropoutNd):
    """In training the answer for a sample is 0 with probability p, else divided by 1 - p: shapes are kept."""

    references: ClassVar[tuple[str, ...]] = ("huang2016stochastic",)
    """Keys into references.bib."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, ...) to the same."""
        if self.p == 0 or not self.training:
            return input
        return input * F.dropout(input.new_ones(len(input), *[1] * (input.ndim - 1)), self.p)


def growing_rates(last: float, blocks: int) -> list[float]:
    """For each block the probability of dropping it: linear, from 0 in the first to `last` in the last."""
    return [last * k / max(blocks - 1, 1) for k in range(blocks)]
