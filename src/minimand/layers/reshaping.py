"""Reshaping of maps: flattening of images of one size, and downsampling that loses nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from .._support.errors import MinimandError


class SpaceToDepth(nn.Module):
    """The pixels of each 2 x 2 square as channels: half the side, and nothing is lost (Belilovsky et al. 2019).

    Channel (2 dy + dx) C + c of the output is channel c of the pixels at (2 i + dy, 2 j + dx), as published;
    `nn.PixelUnshuffle` has them at 4 c + 2 dy + dx.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, 4 C, H / 2, W / 2); an odd side is an error."""
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            raise MinimandError(f"SpaceToDepth was given maps of {height} x {width}; expected even sides.")
        return torch.cat([x[..., dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)], -3)

    def inverse(self, y: Tensor) -> Tensor:
        """The (N, C, H, W) that (N, 4 C, H / 2, W / 2) was made from."""
        if y.shape[-3] % 4:
            raise MinimandError(f"SpaceToDepth.inverse was given {y.shape[-3]} channels; expected a multiple of 4.")
        return F.pixel_shuffle(y.unflatten(-3, (4, -1)).transpose(-3, -4).flatten(-4, -3), 2)


class FlattenOf(nn.Flatten):
    """Flatten maps (N, C, H, W) to (N, features); another number of entries is an error that names the image size."""

    def __init__(self, features: int, image_size: int) -> None:
        super().__init__()
        self.features, self.image_size = features, image_size

    def forward(self, input: Tensor) -> Tensor:
        if not isinstance(input, Proxy) and input.shape[1:].numel() != self.features:
            raise MinimandError(
                f"these images leave maps of {input.shape[2]} x {input.shape[3]}; the network is made for images "
                f"of {self.image_size} x {self.image_size}."
            )
        return super().forward(input)
