"""Downsampling that loses nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._support.errors import MinimandError


class SpaceToDepth(nn.Module):
    """The pixels of each 2 x 2 square as channels: half the side, and nothing is lost (Belilovsky et al. 2019).

    Channel (2 dy + dx) C + c of the output is channel c of the pixels at (2 i + dy, 2 j + dx), as published;
    `nn.PixelUnshuffle` has them at 4 c + 2 dy + dx.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, 4 C, H / 2, W / 2).

        Raises:
            MinimandError: an odd side.
        """
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            raise MinimandError(f"SpaceToDepth was given maps of {height} x {width}; expected even sides.")
        return torch.cat([x[..., dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)], -3)

    def inverse(self, y: Tensor) -> Tensor:
        """The (N, C, H, W) that (N, 4 C, H / 2, W / 2) was made from.

        Raises:
            MinimandError: channels that are no multiple of 4.
        """
        if y.shape[-3] % 4:
            raise MinimandError(f"SpaceToDepth.inverse was given {y.shape[-3]} channels; expected a multiple of 4.")
        return F.pixel_shuffle(y.unflatten(-3, (4, -1)).transpose(-3, -4).flatten(-4, -3), 2)
