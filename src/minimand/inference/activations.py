"""Activations of few levels, as bits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from operator import xor

import torch
from torch import Tensor

from .kernels.bits import Bits, unpack


@dataclass(frozen=True, eq=False)
class BitActivations:
    """The output of a threshold: for each of its jumps the bits of what is above it.

    Attributes:
        planes: one for each jump, in their order.
        leading: the axes of vectors before their last one, (N,) for (N, C); None for maps, (N, C, H, W). Bits of maps
            that were flattened still have a height and a width.
        channels_last: how the real activations would lie in memory.
    """

    planes: tuple[Bits, ...]
    leading: tuple[int, ...] | None
    channels_last: bool

    def map(self, function: Callable[[Bits], Bits]) -> "BitActivations":
        """Activations whose planes are a function of these planes."""
        return replace(self, planes=tuple(map(function, self.planes)))

    def digits(self) -> list[Bits]:
        """The planes of the number of jumps below, as a binary number; the lowest first."""
        # A number's binary digit j is the parity of how many multiples of 2^j are up to it.
        count = len(self.planes)
        if count == 1:
            return list(self.planes)
        return [
            Bits(reduce(xor, [self.planes[i - 1].words for i in range(2**j, count + 1, 2**j)]), self.channels)
            for j in range(count.bit_length())
        ]

    @property
    def channels(self) -> int:
        """The number of channels, C."""
        return self.planes[0].channels

    def real(self, levels: Tensor) -> Tensor:
        """The real activations, of the values `levels`: (L, C), or (L, 1)."""
        if len(self.planes) == levels.shape[1] == 1:
            low, high = levels.flatten().tolist()
            x = unpack(self.planes[0], low, high)
        else:
            above = sum(unpack(plane, 0, 1, torch.int32) for plane in self.planes)
            x = levels.expand(-1, self.channels)[above, torch.arange(self.channels)[:, None, None]]
        if not self.channels_last:
            x = x.contiguous()
        return x if self.leading is None else x.reshape(*self.leading, -1)
