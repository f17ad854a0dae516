"""Where an activation jumps, found through its own arithmetic."""

from collections.abc import Callable

import torch
from torch import Tensor

LARGEST = 0x7F7FFFFF
"""The key of the largest float."""


def jumps_of(count: Callable[[Tensor], Tensor], bound: Tensor, rises: Tensor, jumps: int) -> tuple[Tensor, Tensor]:
    """The largest key t before each jump of each channel: the jump is below key k where (k > t) xor flip.

    Args:
        count: from keys (C,) to how many jumps are below there, monotone in each channel.
        bound: (C,), of the absolute values of keys.
        rises: (C,) of bool, whether the count rises with the key.
        jumps: how many.

    Returns:
        int64 (jumps, C), and flip (C,).
    """
    sign = torch.where(rises, 1, -1)
    last_keys = []
    for j in range(jumps):
        low, high = -bound - 1, bound + 1  # the count is taken to be at most j at low, above it at high
        while bool((open_ := high - low > 1).any()):
            middle = (low + high) // 2
            above = count(sign * middle) > j
            high, low = torch.where(open_ & above, middle, high), torch.where(open_ & ~above, middle, low)
        last_keys.append(torch.where(rises, low, -low - 1))
    return torch.stack(last_keys), ~rises


def float_of(keys: Tensor) -> Tensor:
    """The floats of keys: integers in the order of the floats, neighbours where the floats are."""
    return torch.where(keys < 0, -1.0, 1.0) * keys.abs().to(torch.int32).view(torch.float32)
