"""The block of a vision transformer (Dosovitskiy et al. 2021)."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.stochastic_depth import DropPath
from .registry import block


class Attention(nn.Module):
    """Multi-head self-attention: (N, tokens, C) to the same."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.project = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        split = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*split.unbind(0))
        return self.project(mixed.transpose(1, 2).flatten(2))


@block("transformer", (2, 3, 6), channels=6, heads=2)
class TransformerBranch(nn.Module):
    """Attention A and a token-wise map M, T(z) = A(z) + M(z + A(z)): (N, tokens, C) to the same.

    C is a multiple of `heads`; `drop_path` is the probability with which training drops A, and on its own M, for a
    sample.
    """

    def __init__(self, channels: int, heads: int = 1, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(channels, eps=1e-6)
        self.attention = Attention(channels, heads)
        self.norm_map = nn.LayerNorm(channels, eps=1e-6)
        self.expand, self.activation = nn.Linear(channels, 4 * channels), nn.GELU()
        self.contract = nn.Linear(4 * channels, channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, z: Tensor) -> Tensor:
        attended = self.drop_path(self.attention(self.norm_attention(z)))
        mapped = self.contract(self.activation(self.expand(self.norm_map(z + attended))))
        return attended + self.drop_path(mapped)
