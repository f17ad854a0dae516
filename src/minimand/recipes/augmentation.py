"""Random changes of image batches, on the device the batch is on."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .._support.checks import check_choice, check_flag, check_number
from .._support.clock import timed
from .._support.errors import MinimandError
from .._support.torch.torchvision import require_torchvision

Padding = Literal["zeros", "reflect"]
"""What is beyond the edges of an image: black, or the image mirrored."""

_NOISE = 0.5
_STEPS = 100  # torchvision counts magnitudes in whole steps: fine enough for the noise
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_RATIO = (0.3, 1 / 0.3)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of each image of a batch on its own, made in the order of the fields."""

    pad: int = 0
    """The pixels by which an image is padded before it is cropped, anywhere, to its size."""
    padding: Padding = "zeros"
    """What the padding is: black, or the image mirrored at its edges."""
    flip: bool | Literal["alternating"] = False
    """Whether each image is flipped left to right with probability 1/2. "alternating" does so in the first epoch only:
    in each later one an image is the mirror of what it was in the epoch before (Jordan 2024)."""
    randaugment: float = 0.0
    """The magnitude of two of RandAugment's operations (Cubuk et al. 2020) from 0, none, to 10; extra `vision`.

    At 9 it is close to timm's `rand-m9-mstd0.5-inc1`: each of the two is made with probability 1/2, and its magnitude
    varies by a normal deviation of 0.5. The operations are torchvision's: none inverts the image or adds to its dark
    pixels, posterizing keeps at least 4 bits, interpolation is bilinear, and what comes in at the edges is grey.
    """
    cutout: int = 0
    """The side in pixels of a square that is blanked (DeVries and Taylor 2017)."""
    erase: float = 0.0
    """The probability that a rectangle is filled with noise (Zhong et al. 2020): 2 to 33 % of the area, with a ratio of
    the sides from 0.3 to 3.3; uniform noise for each pixel, as there, where timm's is normal."""

    def __post_init__(self) -> None:
        check_number("Augmentation.pad", self.pad, 0, math.inf, whole=True)
        check_choice("Augmentation.padding", self.padding, Padding)
        if self.flip != "alternating":
            check_flag("Augmentation.flip", self.flip)
        check_number("Augmentation.randaugment", self.randaugment, 0, 10)
        check_number("Augmentation.cutout", self.cutout, 0, math.inf, whole=True)
        check_number("Augmentation.erase", self.erase, 0, 1)

    @timed("augmentation")
    def __call__(self, images: Tensor, epoch: int = 0, seed: int = 0) -> Tensor:
        """(N, C, H, W), bytes or floats from 0 to 1, to the same shape and type.

        Alternating flips follow from the image, the epoch and the seed; all else from torch's random state.

        Raises:
            MissingPackageError: RandAugment needs the extra `vision`. MinimandError: the images are neither grey nor
                of three channels.
        """
        alternates = self.flip == "alternating"
        flipped = _alternate(images, epoch, seed) if alternates else None  # by the image as it is, before it is cropped
        if self.pad:
            images = _pad_crop(images, self.pad, self.padding)
        if self.flip:
            flipped = torch.rand(len(images), device=images.device) < 0.5 if flipped is None else flipped
            images = _mirror(images, flipped)
        if self.randaugment:
            images = _randaugment(images, self.randaugment)
        if self.cutout:
            images = _cut(images, self.cutout)
        return _erase(images, self.erase) if self.erase else images


def _alternate(images: Tensor, epoch: int, seed: int) -> Tensor:
    """Whether each image is flipped, (N,): by a bit of its content and the seed, and the other way in odd epochs.

    An image is known by its content, as samples come in any order, from any source and to any process.
    """
    pixels = (images if images.dtype == torch.uint8 else images.mul(255).round()).flatten(1).to(torch.int32)
    keys = torch.randint(2**31 - 1, pixels.shape[1:], generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    mixed = (pixels * keys.to(images.device)).sum(1, dtype=torch.int64)
    return (mixed >> 16) % 2 != epoch % 2


def _pad_crop(images: Tensor, pad: int, padding: Padding) -> Tensor:
    n, _, height, width = images.shape
    device = images.device
    if padding == "reflect" and pad >= min(height, width):
        raise MinimandError(
            f"Augmentation.pad is {pad}, but the images are {height} x {width}; expected less to reflect."
        )
    padded = F.pad(images, (pad,) * 4, mode="constant" if padding == "zeros" else "reflect")
    rows, columns = (torch.randint(2 * pad + 1, (n, 1), device=device)[:, 0] for _ in range(2))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    # Advanced indices around a slice come first: (N, C, H, W). Whole rows are copied, not single pixels.
    return windows[torch.arange(n, device=device), :, rows, columns]


def _mirror(images: Tensor, flipped: Tensor) -> Tensor:
    """The images, (N, C, H, W), of which those where `flipped`, (N,), holds are left to right."""
    columns = torch.arange(images.shape[-1], device=images.device)
    columns = torch.where(flipped[:, None], columns.flip(0), columns)
    return images.gather(3, columns[:, None, None, :].expand_as(images))


def _randaugment(images: Tensor, magnitude: float) -> Tensor:
    require_torchvision("for RandAugment")
    from torchvision.transforms.v2 import InterpolationMode, RandAugment

    if images.shape[1] not in (1, 3):
        raise MinimandError(
            f"Augmentation.randaugment is {magnitude}, but the images have {images.shape[1]} channels; expected 1 or "
            "3, or randaugment=0."
        )
    grey = 128 if images.dtype == torch.uint8 else 0.5

    def changed(image: Tensor) -> Tensor:
        levels = (magnitude + _NOISE * torch.randn(2)).clamp(0, 10)
        for level in levels[torch.rand(2) < 0.5].tolist():
            image = RandAugment(1, round(level / 10 * _STEPS), _STEPS + 1, InterpolationMode.BILINEAR, grey)(image)
        return image

    return torch.stack([changed(image) for image in images])


def _cut(images: Tensor, size: int) -> Tensor:
    n, _, height, width = images.shape

    def side(length: int) -> Tensor:
        centre = torch.randint(length, (n, 1), device=images.device)
        return _within(length, centre - size // 2, size)

    return images.masked_fill(_rectangles(side(height), side(width)), 0)


def _erase(images: Tensor, probability: float) -> Tensor:
    n, _, height, width = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, device=images.device)

    def side(length: int, size: Tensor) -> Tensor:
        size = size.round().clamp(max=length)
        return _within(length, (uniform(0, 1) * (length - size + 1)).floor(), size)

    area = height * width * uniform(*_ERASED_AREA)
    ratio = uniform(*map(math.log, _ERASED_RATIO)).exp()
    hole = _rectangles(side(height, (area * ratio).sqrt()), side(width, (area / ratio).sqrt()))
    chosen = uniform(0, 1)[:, :, None, None] < probability
    noise = torch.randint_like(images, 256) if images.dtype == torch.uint8 else torch.rand_like(images)
    return torch.where(hole & chosen, noise, images)


def _within(length: int, first: Tensor, size: int | Tensor) -> Tensor:
    """Whether each pixel along a side lies in an interval: first pixels and sizes (N, 1) to a mask (N, length)."""
    place = torch.arange(length, device=first.device) - first
    return (place >= 0) & (place < size)


def _rectangles(rows: Tensor, columns: Tensor) -> Tensor:
    """The masks (N, 1, H, W) of rows (N, H) and columns (N, W)."""
    return rows[:, None, :, None] & columns[:, None, None, :]
