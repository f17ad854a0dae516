"""Weights of few bits, laid out for the kernels."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from . import native


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """Integer weights, and their layout for this machine.

    Attributes:
        integers: int8 of shape (O, C / groups, kh, kw).
        bits: 1 for -1 and 1; 2, 4 or 8 for signed integers.
        groups: of the convolution.
        layout: what the kernels read; None where torch does the work.
    """

    integers: Tensor = field(repr=False)
    bits: int
    groups: int
    layout: "native.Layout | None" = field(default=None, repr=False)

    @property
    def channels(self) -> int:
        """The number of channels of the activations."""
        return self.integers.shape[1] * self.groups

    @property
    def kernel(self) -> tuple[int, int]:
        """The height and width of the window."""
        return self.integers.shape[2], self.integers.shape[3]


def pack_weights(integers: Tensor, bits: int, groups: int = 1) -> PackedWeights:
    """Lay out integer weights for convolutions of bits.

    Args:
        integers: int8 of shape (O, C / groups, kh, kw); of a linear layer kh = kw = 1.
        bits: 1 (values -1 and 1), 2, 4 or 8 (signed integers of so many bits).
        groups: of the convolution.

    Raises:
        ValueError: another dtype or shape, or a weight that is not among the values.
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
