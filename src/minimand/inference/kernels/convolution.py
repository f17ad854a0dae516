"""Convolutions of bits with integers, exact."""

import torch
from torch import Tensor

from . import native, portable
from .bits import Bits, check_pair, check_vector, output_size
from .weights import PackedWeights


def convolve(
    bits: Bits,
    weights: PackedWeights,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    low: int = -1,
) -> Tensor:
    """The sums over the window of weight times activation, which is 1 where the bit is 1, else `low`.

    Padding contributes nothing. A linear layer is a 1 x 1 window.

    Args:
        low: -1 or 0.

    Returns:
        int32 of shape (N, O, Ho, Wo) in channels-last memory, exact.

    Raises:
        ValueError: shapes or arguments that do not fit, by name.
    """
    geometry, out = _geometry(bits, weights, stride, padding, dilation, low)
    if weights.layout is not None and native.takes(bits.words, weights.bits):
        return native.convolve(bits.words, weights.layout, geometry, out, low)
    return portable.convolve(bits.words, bits.channels, weights.integers, weights.groups, geometry, out, low)


def convolve_above(
    bits: Bits,
    weights: PackedWeights,
    thresholds: Tensor,
    flip: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    low: int = -1,
    other: Bits | None = None,
    thresholds_other: Tensor | None = None,
) -> Bits:
    """The bits (sum > threshold) xor flip of the sums of `convolve`, which are not stored.

    Args:
        thresholds: int32 of shape (O,).
        flip: bool of shape (O,); None for no flip.
        other: bits of the output's shape; where they are 1 `thresholds_other` takes the place of `thresholds`: a
            shortcut that adds to the sum.

    Raises:
        ValueError: shapes or arguments that do not fit, by name.
    """
    geometry, out = _geometry(bits, weights, stride, padding, dilation, low)
    count = len(weights.integers)
    device = bits.words.device
    check_vector("thresholds", thresholds, count, torch.int32, device)
    check_vector("flip", flip, count, torch.bool, device)
    check_vector("thresholds_other", thresholds_other, count, torch.int32, device)
    if (other is None) != (thresholds_other is None):
        raise ValueError("of other and thresholds_other one is None; expected both, or neither.")
    shape = (len(bits.words), count, *out)
    if other is not None and (other.shape != shape or other.words.device != device):
        raise ValueError(
            f"other is of shape {other.shape} on {other.words.device}; expected the output's, {shape} on {device}."
        )
    if weights.layout is not None and native.takes(bits.words, weights.bits):
        chosen = None if other is None or thresholds_other is None else (other.words, thresholds_other)
        words = native.convolve_above(bits.words, weights.layout, geometry, out, low, thresholds, flip, chosen)
        return Bits(words, count)
    sums = portable.convolve(bits.words, bits.channels, weights.integers, weights.groups, geometry, out, low)
    limits = thresholds[:, None, None]
    if other is not None and thresholds_other is not None:
        switch = portable.to_bytes(other.words, count).permute(0, 3, 1, 2).bool()
        limits = torch.where(switch, thresholds_other[:, None, None], limits)
    high = (sums > limits) ^ (False if flip is None else flip[:, None, None])
    return Bits(portable.to_words(high.permute(0, 2, 3, 1)), count)


def _geometry(
    bits: Bits,
    weights: PackedWeights,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
    dilation: int | tuple[int, int],
    low: int,
) -> tuple[native.Geometry, tuple[int, int]]:
    if bits.channels != weights.channels:
        raise ValueError(f"bits has {bits.channels} channels; expected {weights.channels}, those of the weights.")
    if low not in (-1, 0):
        raise ValueError(f"low is {low!r}; expected -1 or 0.")
    geometry = check_pair("stride", stride, 1), check_pair("padding", padding, 0), check_pair("dilation", dilation, 1)
    return geometry, output_size(bits, weights.kernel, *geometry)
