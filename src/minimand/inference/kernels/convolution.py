"""Convolutions of bits with integers, exact."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from . import native, portable
from .bits import Bits, as_pair, check_vector, output_size
from .portable import Pair


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """Integer weights, int8 of shape (O, C / groups, kh, kw), and their layout for this machine's kernels."""

    integers: Tensor
    bits: int
    groups: int
    layout: native.Layout | None
    """The weights as the kernels read them; None where torch does the work."""


def pack_weights(integers: Tensor, bits: int, groups: int = 1) -> PackedWeights:
    """Lay out integer weights, int8 of shape (O, C / groups, kh, kw), for convolutions of bits.

    They are -1 and 1 if `bits` is 1, else signed integers of 2, 4 or 8 bits; of a linear layer kh = kw = 1.
    """
    if integers.dtype != torch.int8 or integers.ndim != 4 or 0 in integers.shape:
        raise MinimandError(
            f"integers is {integers.dtype} of shape {tuple(integers.shape)}; expected torch.int8 of shape "
            "(O, C / groups, kh, kw); of a linear layer (O, C, 1, 1)."
        )
    if bits not in (1, 2, 4, 8) or isinstance(bits, bool):
        raise MinimandError(f"bits is {bits!r}; expected 1, 2, 4 or 8.")
    check_number("groups", groups, 1, len(integers), whole=True)
    if len(integers) % groups:
        raise MinimandError(f"groups is {groups}; expected a divisor of the {len(integers)} output channels.")
    if integers[0].numel() >= 2**22:
        raise MinimandError(f"integers sums over {integers[0].numel()} inputs; expected fewer than {2**22}.")
    integers = integers.detach().contiguous()
    low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    outside = (integers < low) | (integers > high) | ((integers == 0) & (bits == 1))
    if outside.any():
        named = "-1 or 1" if bits == 1 else f"{low} to {high}"
        raise MinimandError(f"integers contains {int(integers[outside][0])}; expected {named} for bits = {bits}.")
    layout = native.lay_out(integers, bits, groups) if native.takes(integers, bits) else None
    return PackedWeights(integers, bits, groups, layout)


def prepare(
    bits: Bits,
    weights: PackedWeights,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    low: int = -1,
) -> "Convolution":
    """The convolution of bits of this shape, of any values, with weights.

    An activation is 1 where its bit is 1, else `low`, -1 or 0. Padding contributes nothing to a sum.
    """
    outputs, inputs, height, width = weights.integers.shape
    channels = inputs * weights.groups
    if bits.channels != channels:
        raise MinimandError(f"bits has {bits.channels} channels; expected {channels}, those of the weights.")
    if low not in (-1, 0):
        raise MinimandError(f"low is {low!r}; expected -1 or 0.")
    geometry = as_pair("stride", stride, 1), as_pair("padding", padding, 0), as_pair("dilation", dilation, 1)
    out = output_size(bits, (height, width), *geometry)
    plan = None if weights.layout is None else native.plan(bits.words.shape, weights.layout, geometry, out, low)
    return Convolution(weights, geometry, low, bits.shape, (len(bits.words), outputs, *out), plan)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of bits of one shape whose arguments were checked."""

    weights: PackedWeights
    geometry: portable.Geometry
    low: int
    input_shape: tuple[int, int, int, int]
    """The shape of the bits, (N, C, H, W)."""
    shape: tuple[int, int, int, int]
    """The shape of the sums, (N, O, Ho, Wo)."""
    plan: native.KernelPlan | None
    """The call of the kernels; None where torch does the work."""

    def sums(self, bits: Bits) -> Tensor:
        """The exact sums over the window of weight times activation: int32 (N, O, Ho, Wo), in channels-last memory."""
        self._check(bits)
        if self.plan is not None and native.takes(bits.words, self.weights.bits):
            return native.convolve(bits.words, self.plan)
        integers, groups = self.weights.integers, self.weights.groups
        return portable.convolve(bits.words, bits.channels, integers, groups, self.geometry, self.shape[2:], self.low)

    def above(
        self,
        bits: Bits,
        thresholds: Tensor,
        flip: Tensor | None = None,
        shortcut: Bits | None = None,
        shortcut_limits: Tensor | None = None,
    ) -> Bits:
        """The bits (sum > threshold) xor flip of the sums, which are not stored.

        Thresholds are int32 (O,), flip is bool (O,). Where a shortcut, bits of the output's shape, is 1,
        `shortcut_limits` take the place of `thresholds`: a shortcut that adds to the sum.
        """
        self._check(bits)
        count, device = self.shape[1], bits.words.device
        check_vector("thresholds", thresholds, count, torch.int32, device)
        check_vector("flip", flip, count, torch.bool, device)
        check_vector("shortcut_limits", shortcut_limits, count, torch.int32, device)
        if (shortcut is None) != (shortcut_limits is None):
            raise MinimandError("of shortcut and shortcut_limits one is None; expected both, or neither.")
        if shortcut is not None and (shortcut.shape != self.shape or shortcut.words.device != device):
            raise MinimandError(
                f"shortcut is of shape {shortcut.shape} on {shortcut.words.device}; expected the output's, "
                f"{self.shape} on {device}."
            )
        if self.plan is not None and native.takes(bits.words, self.weights.bits):
            switch = None if shortcut is None else shortcut.words
            return Bits(native.convolve_above(bits.words, self.plan, thresholds, flip, switch, shortcut_limits), count)
        limits = thresholds[:, None, None]
        if shortcut is not None and shortcut_limits is not None:
            switch = portable.to_bytes(shortcut.words, count).permute(0, 3, 1, 2).bool()
            limits = torch.where(switch, shortcut_limits[:, None, None], limits)
        high = (self.sums(bits) > limits) ^ (False if flip is None else flip[:, None, None])
        return Bits(portable.to_words(high.permute(0, 2, 3, 1)), count)

    def _check(self, bits: Bits) -> None:
        if bits.shape != self.input_shape:
            raise MinimandError(f"bits is of shape {bits.shape}; this convolution was prepared for {self.input_shape}.")
