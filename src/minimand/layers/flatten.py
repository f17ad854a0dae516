"""Flattening of maps whose number of entries is checked."""

from torch import Tensor, nn
from torch.fx import Proxy

from .._support.errors import MinimandError


class FlattenOf(nn.Flatten):
    """Flatten maps of which there have to be a number of entries: images have one size."""

    def __init__(self, features: int, image_size: int) -> None:
        super().__init__()
        self.features, self.image_size = features, image_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, features)."""
        if not isinstance(input, Proxy) and input.shape[1:].numel() != self.features:
            raise MinimandError(
                f"these images leave maps of {input.shape[2]} x {input.shape[3]}; the network is made for images "
                f"of {self.image_size} x {self.image_size}."
            )
        return super().forward(input)
