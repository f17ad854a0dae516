"""Stochastic depth (Huang et al. 2016), also called drop-path."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from .._support.torch.internals import DropoutNd


# As a kind of dropout it is known to whatever asks what a block contains.
class DropPath(DropoutNd):
    """Stochastic depth: in training a branch's answer for a sample is 0 with probability p, else divided by 1 - p."""

    references: ClassVar[tuple[str, ...]] = ("huang2016stochastic",)

    def forward(self, input: Tensor) -> Tensor:
        if self.p == 0 or not self.training:
            return input
        return input * F.dropout(input.new_ones(len(input), *[1] * (input.ndim - 1)), self.p)


def growing_rates(last: float, blocks: int) -> list[float]:
    """The probability of dropping each block, which grows linearly from 0 in the first to `last` in the last."""
    return [last * k / max(blocks - 1, 1) for k in range(blocks)]
