"""Activations of two values, one bit each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from . import native, portable
from .portable import Pair

WORD = 64


@dataclass(frozen=True, eq=False)
class Bits:
    """Activations of C channels as bits: 1 where they are high."""

    words: Tensor
    """Bit c % 64 of word c // 64 is channel c, unused ones are 0; int64 (N, H, W, ceil(C / 64))."""
    channels: int

    def __post_init__(self) -> None:
        words, count = self.words, -(-self.channels // WORD)
        if words.dtype != torch.int64 or words.ndim != 4 or words.shape[3] != count or not words.is_contiguous():
            raise MinimandError(
                f"words is {words.dtype} of shape {tuple(words.shape)}; expected torch.int64, contiguous, of shape "
                f"(N, H, W, {count}) for {self.channels} channels."
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the activations, (N, C, H, W)."""
        samples, height, width, _ = self.words.shape
        return samples, self.channels, height, width


def pack_above(z: Tensor, thresholds: Tensor | None = None, flip: Tensor | None = None) -> Bits:
    """The bits (z > threshold) xor flip, per channel; NaN is above nothing.

    z is (N, C, H, W) or (N, C), floating point or int32; thresholds (C,) of its dtype, None for 0; flip (C,) of bool.
    """
    if z.ndim not in (2, 4) or not (z.is_floating_point() or z.dtype == torch.int32) or z.shape[1] == 0:
        raise MinimandError(
            f"z is {z.dtype} of shape {tuple(z.shape)}; expected floating point or torch.int32 of shape (N, C, H, W) "
            "or (N, C)."
        )
    check_vector("thresholds", thresholds, z.shape[1], z.dtype, z.device)
    check_vector("flip", flip, z.shape[1], torch.bool, z.device)
    z = z.detach() if z.ndim == 4 else z.detach()[:, :, None, None]
    run = native if native.takes(z) and z.dtype in (torch.float32, torch.int32) else portable
    return Bits(run.pack_above(z, thresholds, flip), z.shape[1])


def unpack(bits: Bits, low: float = -1, high: float = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """The activations, (N, C, H, W) in channels-last memory: `high` where the bit is 1, else `low`."""
    if native.takes(bits.words) and dtype == torch.float32:
        return native.unpack(bits.words, bits.channels, low, high)
    return portable.unpack(bits.words, bits.channels, low, high, dtype)


def pool_any(bits: Bits, kernel: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Bits:
    """Bits that are 1 where any of the window is, as max pooling of two values does; stride None is the kernel's."""
    size = as_pair("kernel", kernel, 1)
    step, border = as_pair("stride", size if stride is None else stride, 1), as_pair("padding", padding, 0)
    if any(2 * p > k for p, k in zip(border, size, strict=True)):
        raise MinimandError(f"padding is {padding!r}; expected at most half of the kernel, {size}.")
    out = output_size(bits, size, step, border, (1, 1))
    run = native if native.takes(bits.words) else portable
    return Bits(run.pool_any(bits.words, size, step, border, out), bits.channels)


def output_size(bits: Bits, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """The height and width of the output of a window."""
    sizes = bits.words.shape[1:3]
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    out = [(n + 2 * p - s) // t + 1 for n, p, s, t in zip(sizes, padding, spans, stride, strict=True)]
    if min(out) < 1:
        raise MinimandError(
            f"a window of {spans[0]} x {spans[1]} does not fit into {tuple(sizes)} with padding {padding}."
        )
    return out[0], out[1]


def as_pair(name: str, value: int | Pair, low: int) -> Pair:
    """An argument of a convolution as a pair of numbers."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or {*map(type, pair)} != {int} or min(pair) < low or max(pair) >= 2**15:
        raise MinimandError(f"{name} is {value!r}; expected an integer of at least {low}, or a pair of them.")
    return pair[0], pair[1]


def check_vector(name: str, vector: Tensor | None, length: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise MinimandError unless there is one value per channel, or None."""
    if vector is not None and (vector.dtype != dtype or vector.shape != (length,) or vector.device != device):
        raise MinimandError(
            f"{name} is {vector.dtype} of shape {tuple(vector.shape)} on {vector.device}; expected {dtype} of shape "
            f"({length},) on {device}, one value per channel."
        )
