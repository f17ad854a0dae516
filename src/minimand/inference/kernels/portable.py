"""The operations on bits in torch alone: for any device, and where there is no compiler."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._support.torch.internals import int8_product

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair]
"""The stride, padding and dilation of a convolution."""


def pack_above(z: Tensor, thresholds: Tensor | None, flip: Tensor | None) -> Tensor:
    """Words of the bits (z > threshold) xor flip of z, (N, C, H, W)."""
    z = z.permute(0, 2, 3, 1)
    return to_words((z > (0 if thresholds is None else thresholds)) ^ (False if flip is None else flip))


def unpack(words: Tensor, channels: int, low: float, high: float, dtype: torch.dtype) -> Tensor:
    """Activations of words in channels-last memory."""
    values = torch.tensor([low, high], dtype=dtype, device=words.device)
    return values[to_bytes(words, channels).long()].permute(0, 3, 1, 2)


def pool_any(words: Tensor, kernel: Pair, stride: Pair, padding: Pair, out: Pair) -> Tensor:
    """Words that are 1 where any of a window is."""
    windows = _windows(words, kernel, stride, padding, (1, 1), out)
    pooled = windows[:, :, :, 0, 0]
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            pooled = pooled | windows[:, :, :, i, j]
    return pooled.contiguous()


def convolve(
    words: Tensor, channels: int, integers: Tensor, groups: int, geometry: Geometry, out: Pair, low: int
) -> Tensor:
    """Sums of integers times activations, channels-last."""
    kernel = (integers.shape[2], integers.shape[3])
    x = to_bytes(words, channels).to(torch.int8)
    windows = _windows(x if low == 0 else 2 * x - 1, kernel, *geometry, out)
    sums = [
        _product(part.reshape(-1, weight[0].numel()), weight.permute(2, 3, 1, 0).reshape(-1, len(weight)))
        for part, weight in zip(windows.chunk(groups, 5), integers.to(x.device).chunk(groups), strict=True)
    ]
    return torch.cat(sums, 1).view(len(words), *out, len(integers)).permute(0, 3, 1, 2)


def to_words(high: Tensor) -> Tensor:
    """Bools in words of 64 bits, along the last axis."""
    padded = F.pad(high, (0, -high.shape[-1] % 64)).unflatten(-1, (-1, 8)).to(torch.uint8)
    shifts = torch.arange(8, dtype=torch.uint8, device=high.device)
    return (padded << shifts).sum(-1, dtype=torch.uint8).contiguous().view(torch.int64)


def to_bytes(words: Tensor, channels: int) -> Tensor:
    """The inverse of `to_words`, as bytes."""
    shifts = torch.arange(8, dtype=torch.uint8, device=words.device)
    return (((words.view(torch.uint8)[..., None] >> shifts) & 1).flatten(-2))[..., :channels]


def _product(x: Tensor, y: Tensor) -> Tensor:
    if x.device.type == "cpu":
        # Of one row with the strides of a column torch's product gives wrong sums (torch 2.13).
        return int8_product(*(z.flatten().view(z.shape) for z in (x, y)))
    exact = torch.float32 if 128 * len(y) < 2**24 else torch.float64  # every partial sum is a float
    return (x.to(exact) @ y.to(exact)).to(torch.int32)


def _windows(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, out: Pair) -> Tensor:
    """(N, Ho, Wo, kh, kw, C) of x, (N, H, W, C): a view of it with zeros around."""
    x = F.pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0])).contiguous()
    n, h, w, c = x.stride()
    shape = (x.shape[0], *out, *kernel, x.shape[3])
    return x.as_strided(shape, (n, stride[0] * h, stride[1] * w, dilation[0] * h, dilation[1] * w, c))
