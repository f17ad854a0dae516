"""The layer of highway networks (Srivastava et al. 2015)."""

import torch
from torch import Tensor, nn

from .registry import block


@block("highway", (3, 6), width=6)
class HighwayBranch(nn.Module):
    """The branch of a highway layer, T(x) = t (h - x), with h = ReLU(H x), t = sigmoid(G x): (N, width) to the same.

    The layer is x + T(x) = t h + (1 - t) x. The gate's bias starts with `bias`; where it is negative, a layer at first
    carries most of its input on.
    """

    def __init__(self, width: int, bias: float = -2.0) -> None:
        super().__init__()
        self.transform, self.activation, self.gate = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x)) * (self.activation(self.transform(x)) - x)
