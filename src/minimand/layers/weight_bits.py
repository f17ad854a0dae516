"""Weights of few bits, which real ones behind them learn."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError
from .._support.torch.internals import ConvNd, convolve, same_under

_BITS = (1, 2, 4, 8)
# A channel whose weights are all 0 has a scale too: gradients reach its weights through it.
_LEAST_SCALE = 1e-20
_ON_GRID = 1e-5


def check_bits(bits: Any) -> None:
    """Raise MinimandError unless `bits` is a number of bits that weights can have."""
    if not isinstance(bits, int) or isinstance(bits, bool) or bits not in _BITS:
        raise MinimandError(f"weight_bits is {bits!r}; expected 1, 2, 4 or 8 bits, or None for real ones.")


def few_bit_weight(module: nn.Linear | ConvNd, bits: int, unit: float = 1.0) -> "FewBitLayer":
    """A layer with the weight of another one in few bits; the gradient goes straight through to the real weight.

    Both layers share parameters, buffers and hooks, so that one can take the place of the other at any time. The new
    one, a `FewBitLayer`, sums integers times its input, then scales the sum and adds the bias. Where
    the input is of whole multiples of `unit`, as thresholds give, the sums are exact (below 2^24 in float32).

    One bit: alpha sign(W), alpha the mean absolute value per output channel (Rastegari et al. 2016), sign(0) = -1.
    More: the nearest integer from -(2^(bits-1) - 1) to 2^(bits-1) - 1, times a scale per output channel that takes the
    largest weight to the end.
    """
    check_bits(bits)
    if type(module) not in FEW_BIT_LAYERS:
        few_bit_layers = ", ".join(kind.__name__ for kind in FEW_BIT_LAYERS)
        raise WrongTypeError(f"a {type(module).__name__} has no weights of few bits; expected one of {few_bit_layers}.")
    layer = same_under(FEW_BIT_LAYERS[type(module)], module)
    layer.bits, layer.unit = bits, unit
    return layer


class FewBitLayer(nn.Module):
    """A linear layer or a convolution whose weight has few bits; `weight` is the real one behind it."""

    weight: Tensor
    bias: Tensor | None
    bits: int
    """The number of bits of a weight: 1, 2, 4 or 8."""
    unit: float
    """The number of which the levels of the input are whole multiples."""

    @property
    def references(self) -> tuple[str, ...]:
        return ("rastegari2016xnor",) if self.bits == 1 else ()

    def integers(self) -> Tensor:
        """The weights as integers, in floats of the weight's shape."""
        return _Integers.apply(self.weight, self.scale(), self.bits)  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def scale(self) -> Tensor:
        """The factor (out, 1, ...) that takes the integers to the weights."""
        size, axes = self.weight.abs(), tuple(range(1, self.weight.ndim))
        one_bit = self.bits == 1
        scale = size.mean(axes, keepdim=True) if one_bit else size.amax(axes, keepdim=True) / top(self.bits)
        return scale.clamp_min(_LEAST_SCALE)

    def forward(self, input: Tensor) -> Tensor:
        if self.training:  # for backward the input itself is saved, or its bits; `sums` would save a copy
            return self._scaled(self._product(input), 1.0)
        return self.scaled(self.sums(input))

    def sums(self, x: Tensor) -> Tensor:
        """The sums over the input of integers times x / unit."""
        if self.unit != 1:
            x = x / self.unit
            # Multiples of a unit such as 1/3 are no floats, and land beside whole numbers.
            whole, real = x.round(), x.detach()
            x = x + torch.where((real - whole).abs() < _ON_GRID, whole - real, 0.0).detach()
        return self._product(x)

    def scaled(self, sums: Tensor) -> Tensor:
        """The layer's output, from `sums`: of a linear layer the last axis are channels, else the second."""
        return self._scaled(sums, self.unit)

    def _product(self, x: Tensor) -> Tensor:
        if isinstance(self, nn.Linear):
            return nn.functional.linear(x, self.integers())
        return convolve(cast(ConvNd, self), x, self.integers())

    def _scaled(self, sums: Tensor, unit: float) -> Tensor:
        axes = (1,) * (self.weight.ndim - 2)
        y = sums * (unit * self.scale()).view(-1, *axes).to(sums.dtype)
        return y if self.bias is None else y + self.bias.view(-1, *axes).to(sums.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}"


class FewBitLinear(FewBitLayer, nn.Linear):
    """A linear layer whose weight has few bits."""


class FewBitConv1d(FewBitLayer, nn.Conv1d):
    """A convolution in one dimension whose weight has few bits."""


class FewBitConv2d(FewBitLayer, nn.Conv2d):
    """A convolution in 2 dimensions whose weight has few bits."""


class FewBitConv3d(FewBitLayer, nn.Conv3d):
    """A convolution in 3 dimensions whose weight has few bits."""


FEW_BIT_LAYERS: dict[type, type[FewBitLayer]] = {
    nn.Linear: FewBitLinear,
    nn.Conv1d: FewBitConv1d,
    nn.Conv2d: FewBitConv2d,
    nn.Conv3d: FewBitConv3d,
}
"""The class of few-bit weights for each class of layers."""


def top(bits: int) -> int:
    """The largest integer that a weight of so many bits can be."""
    return max(2 ** (bits - 1) - 1, 1)


class _Integers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(scale)
        if bits == 1:
            return torch.where(weight > 0, 1.0, -1.0).to(weight.dtype)
        return (weight / scale).round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (scale,) = ctx.saved_tensors
        return gradients[0] / scale, None, None  # as if scale x integers were the real weight
