"""Weights of few bits, which real ones behind them learn."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError
from .._support.torch_internals import ConvNd

_BITS = (1, 2, 4, 8)
# A channel whose weights are all 0 has a scale too: gradients reach its weights through it.
_LEAST_SCALE = 1e-20
_ON_GRID = 1e-5


def check_bits(bits: Any) -> None:
    """Raise ValueError unless weights can have so many bits."""
    if bits not in _BITS or isinstance(bits, bool):
        raise MinimandError(f"weights is {bits!r}; expected 1, 2, 4 or 8 bits, or None for real ones.")


def few_bit_weight(module: nn.Linear | ConvNd, bits: int, unit: float = 1.0) -> None:
    """Give a layer a weight of so many bits, in place; the gradient goes straight through to the real one behind it.

    The layer becomes a `FewBitLayer`: it sums integers times its input, then scales the sum and adds the bias. Where
    the input is of whole multiples of `unit`, as thresholds give, the sums are exact (below 2^24 in float32).

    One bit: alpha sign(W), alpha the mean absolute value per output channel (Rastegari et al. 2016), sign(0) = -1.
    More: the nearest integer from -(2^(bits-1) - 1) to 2^(bits-1) - 1, times a scale per output channel that takes the
    largest weight to the end.

    Raises:
        ValueError: another number of bits than 1, 2, 4 or 8; TypeError: neither a linear layer nor a convolution.
    """
    check_bits(bits)
    if type(module) not in FEW_BIT_LAYERS:
        known = ", ".join(kind.__name__ for kind in FEW_BIT_LAYERS)
        raise WrongTypeError(f"a {type(module).__name__} has no weights of few bits; expected one of {known}.")
    module.__class__ = FEW_BIT_LAYERS[type(module)]
    layer = cast(FewBitLayer, module)
    layer.bits, layer.unit = bits, unit


class FewBitLayer(nn.Module):
    """A linear layer or a convolution whose weight has few bits; `weight` is the real one behind it."""

    weight: Tensor
    bias: Tensor | None
    bits: int
    unit: float
    """Of the input's levels."""

    @property
    def references(self) -> tuple[str, ...]:
        """Keys into references.bib."""
        return ("rastegari2016xnor",) if self.bits == 1 else ()

    def integers(self) -> Tensor:
        """The integers, as floats of the weight's shape."""
        return _Integers.apply(self.weight, self.scale(), self.bits)  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def scale(self) -> Tensor:
        """(out, 1, ...): what takes the integers to the weights."""
        size, axes = self.weight.abs(), tuple(range(1, self.weight.ndim))
        found = size.mean(axes, keepdim=True) if self.bits == 1 else size.amax(axes, keepdim=True) / top(self.bits)
        return found.clamp_min(_LEAST_SCALE)

    def forward(self, input: Tensor) -> Tensor:
        """Shapes as the real layer's."""
        if self.training:  # without a copy of the input, of which bits may be kept
            return self._scaled(self._product(input), 1.0)
        return self.scaled(self.sums(input))

    def sums(self, x: Tensor) -> Tensor:
        """The sums of integers times x / unit."""
        if self.unit != 1:
            x = x / self.unit
            whole, given = x.round(), x.detach()  # thirds are no floats
            x = x + torch.where((given - whole).abs() < _ON_GRID, whole - given, 0.0).detach()
        return self._product(x)

    def scaled(self, sums: Tensor) -> Tensor:
        """The layer's output, from such sums: of a linear layer the last axis are channels, else the second."""
        return self._scaled(sums, self.unit)

    def _product(self, x: Tensor) -> Tensor:
        if isinstance(self, nn.Linear):
            return nn.functional.linear(x, self.integers())
        return cast(ConvNd, self)._conv_forward(x, self.integers(), None)  # pyright: ignore

    def _scaled(self, sums: Tensor, unit: float) -> Tensor:
        axes = (1,) * (self.weight.ndim - 2)
        y = sums * (unit * self.scale()).view(-1, *axes).to(sums.dtype)
        return y if self.bias is None else y + self.bias.view(-1, *axes).to(sums.dtype)

    def extra_repr(self) -> str:
        """What a print shows."""
        return f"{super().extra_repr()}, bits={self.bits}"


class FewBitLinear(FewBitLayer, nn.Linear):
    """A `FewBitLayer`."""


class FewBitConv1d(FewBitLayer, nn.Conv1d):
    """A `FewBitLayer`."""


class FewBitConv2d(FewBitLayer, nn.Conv2d):
    """A `FewBitLayer`."""


class FewBitConv3d(FewBitLayer, nn.Conv3d):
    """A `FewBitLayer`."""


FEW_BIT_LAYERS: dict[type, type] = {
    nn.Linear: FewBitLinear,
    nn.Conv1d: FewBitConv1d,
    nn.Conv2d: FewBitConv2d,
    nn.Conv3d: FewBitConv3d,
}
CAN_HAVE_FEW_BITS = tuple(FEW_BIT_LAYERS)
"""The layers that can."""


def top(bits: int) -> int:
    """The largest integer of so many bits."""
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
