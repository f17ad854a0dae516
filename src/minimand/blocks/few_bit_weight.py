"""Weights of few bits, which real ones behind them learn."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import register_parametrization


def few_bit_weight(module: nn.Linear | _ConvNd, bits: int) -> None:
    """Round the weight of a layer to so many bits, in place; its gradient goes straight through to the real one.

    One bit: alpha sign(W), alpha the mean absolute value per output channel (Rastegari et al. 2016), sign(0) = -1.
    More: the nearest integer from -(2^(bits-1) - 1) to 2^(bits-1) - 1, times a scale per output channel that takes the
    largest weight to the end.

    Raises:
        ValueError: another number of bits than 1, 2, 4 or 8.
    """
    if bits not in (1, 2, 4, 8) or isinstance(bits, bool):
        raise ValueError(f"weights is {bits!r}; expected 1, 2, 4 or 8 bits, or None for real ones.")
    register_parametrization(module, "weight", FewBits(bits))


class FewBits(nn.Module):
    """The parametrization of such a weight."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Shapes as given."""
        return _Rounded.apply(weight, self.bits)  # pyright: ignore[reportReturnType]


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int) -> Tensor:
        axes = tuple(range(1, weight.ndim))
        if bits == 1:
            alpha = weight.abs().mean(axes, keepdim=True)
            return torch.where(weight > 0, alpha, -alpha)
        top = 2 ** (bits - 1) - 1
        scale = (weight.abs().amax(axes, keepdim=True) / top).clamp_min(torch.finfo(weight.dtype).tiny)
        return (weight / scale).round() * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return *gradients, None
