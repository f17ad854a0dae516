"""Random changes of image batches, on the device the batch is on."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Pad by `pad` and crop, flip left to right with probability 1/2, blank a square of `cutout` pixels."""

    pad: int = 0
    flip: bool = False
    cutout: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape and type; each image is changed on its own."""
        if self.pad:
            images = _pad_crop(images, self.pad)
        if self.flip:
            flipped = torch.rand(len(images), device=images.device) < 0.5
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        return _cut(images, self.cutout) if self.cutout else images


def _pad_crop(images: Tensor, pad: int) -> Tensor:
    n, _, height, width = images.shape
    device = images.device
    padded = F.pad(images, (pad,) * 4)
    rows = torch.randint(2 * pad + 1, (n, 1), device=device) + torch.arange(height, device=device)
    columns = torch.randint(2 * pad + 1, (n, 1), device=device) + torch.arange(width, device=device)
    sample = torch.arange(n, device=device)[:, None, None]
    # Advanced indices around a slice come first: (N, H, W, C).
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cut(images: Tensor, size: int) -> Tensor:
    n, _, height, width = images.shape
    device = images.device

    def inside(length: int) -> Tensor:
        centre = torch.randint(length, (n, 1), device=device)
        first = torch.arange(length, device=device) - (centre - size // 2)
        return (first >= 0) & (first < size)

    hole = inside(height)[:, None, :, None] & inside(width)[:, None, None, :]
    return images.masked_fill(hole, 0)
