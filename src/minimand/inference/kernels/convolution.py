"""Convolutions of bits with integers, exact."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from . import native, portable
from .bits import Bits, check_pair, check_vector, output_size
from .weights import PackedWeights


def prepare(
    bits: Bits,
    weights: PackedWeights,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    low: int = -1,
) -> "Convolution":
    """The convolution of bits of this shape, of any values, with weights.

    An activation is 1 where its bit is 1, else `low`, -1 or 0. Padding contributes nothing to a sum. A linear layer is
    a 1 x 1 window.

    Raises:
        MinimandError: shapes or arguments that do not fit, by name.
    """
    if bits.channels != weights.channels:
        raise MinimandError(f"bits has {bits.channels} channels; expected {weights.channels}, those of the weights.")
    if low not in (-1, 0):
        raise MinimandError(f"low is {low!r}; expected -1 or 0.")
    geometry = check_pair("stride", stride, 1), check_pair("padding", padding, 0), check_pair("dilation", dilation, 1)
    out = output_size(bits, weights.kernel, *geometry)
    plan = None if weights.layout is None else native.plan(bits.words.shape, weights.layout, geometry, out, low)
    return Convolution(weights, geometry, low, bits.shape, (len(bits.words), len(weights.integers), *out), plan)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of bits of one shape whose arguments were checked.

    Attributes:
        weights: as they were given.
        geometry: stride, padding, dilation.
        low: what a bit that is not set stands for.
        input_shape: the shape of the bits, (N, C, H, W).
        shape: the shape of the sums, (N, O, Ho, Wo).
        plan: what the kernels need; None where torch does the work.
    """

    weights: PackedWeights
    geometry: native.Geometry
    low: int
    input_shape: tuple[int, int, int, int]
    shape: tuple[int, int, int, int]
    plan: native.KernelPlan | None

    def sums(self, bits: Bits) -> Tensor:
        """The exact sums over the window of weight times activation: int32 (N, O, Ho, Wo), in channels-last memory."""
        self._check(bits)
        if self.plan is not None and native.takes(bits.words, self.weights.bits):
            return native.convolve(bits.words, self.plan)
        weights = self.weights
        out = self.shape[2:]
        return portable.convolve(
            bits.words, bits.channels, weights.integers, weights.groups, self.geometry, out, self.low
        )

    def above(
        self,
        bits: Bits,
        thresholds: Tensor,
        flip: Tensor | None = None,
        shortcut: Bits | None = None,
        shortcut_limits: Tensor | None = None,
    ) -> Bits:
        """The bits (sum > threshold) xor flip of the sums, which are not stored.

        Args:
            bits: of the prepared shape.
            thresholds: int32 of shape (O,).
            flip: bool of shape (O,); None for no flip.
            shortcut: bits of the output's shape; where they are 1 `shortcut_limits` take the place of `thresholds`: a
                shortcut that adds to the sum.
            shortcut_limits: int32 of shape (O,).
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
