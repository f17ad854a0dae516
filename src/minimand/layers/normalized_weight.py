"""Weights that a layer computes before it uses them: standardized ones, and convolutions of operator norm 1."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from .._support.errors import MinimandError
from .._support.torch.internals import ConvNd, ConvTransposeNd, convolve, make_picklable, unhooked

LinearOrConvolution = TypeVar("LinearOrConvolution", bound=nn.Linear | ConvNd)
Convolution = TypeVar("Convolution", bound=nn.Conv1d | nn.Conv2d | nn.Conv3d)

_STEPS_AT_FIRST = 15  # as many as torch's spectral_norm begins with


def weight_standardization(module: LinearOrConvolution, gamma: float = 1.0) -> LinearOrConvolution:
    """Standardize the weight of a linear or convolutional layer, in place; returns the layer.

    Each filter becomes g gamma (w - mean(w)) / sqrt(fan_in var(w) + 1e-6) with a learned g, 1 at first: white inputs of
    variance 1 give outputs of variance gamma^2 (the scaled form of Brock et al. 2021). A normalization after the layer
    undoes any scale, so that this is also the form of Qiao et al. 2019.

    `gamma` is 1 over the standard deviation of the activation before it at a standard normal input: 1.7128585 for ReLU.
    Transposed convolutions are an error, and so are filters of a single weight, of which nothing would be left.
    """
    _check(module, (nn.Linear, ConvNd))
    if module.weight[0].numel() < 2:
        raise MinimandError(f"{module} has filters of one weight; standardized they are 0.")
    register_parametrization(module, "weight", _Standardized(module.weight, gamma))
    return make_picklable(module)


def operator_norm(module: Convolution, size: int = 16) -> Convolution:
    """Divide the weight of a convolution by its norm as a map of images, in place; returns the convolution.

    The norm is the largest singular value of that map, with the layer's stride, dilation, padding and groups, found by
    power iteration: one step at each pass in training. The norm of the reshaped weight, which torch's `spectral_norm`
    takes, is another number. With `size`, the side of the images, it grows a little, to that for all sizes. Transposed
    convolutions are an error.
    """
    _check(module, (ConvNd,))
    register_parametrization(module, "weight", _OfNormOne(module, size))
    return make_picklable(module)


def _check(module: nn.Module, kinds: tuple[type, ...]) -> None:
    if not isinstance(module, kinds) or isinstance(module, ConvTransposeNd):
        expected = "linear or convolutional" if len(kinds) > 1 else "convolutional"
        raise MinimandError(f"module is {module}; expected a {expected} layer, not a transposed one.")


class _Standardized(nn.Module):
    def __init__(self, weight: Tensor, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.gain = nn.Parameter(weight.new_ones(len(weight), *[1] * (weight.ndim - 1)))

    def forward(self, weight: Tensor) -> Tensor:
        axes = tuple(range(1, weight.ndim))
        variance, mean = torch.var_mean(weight, axes, correction=0, keepdim=True)
        scale = (weight[0].numel() * variance + 1e-6).rsqrt()
        return (weight - mean) * (self.gamma * scale * self.gain)


class _OfNormOne(nn.Module):
    # The right singular vector of the largest singular value, as near as the steps so far brought it.
    vector: Tensor

    def __init__(self, module: nn.Conv1d | nn.Conv2d | nn.Conv3d, size: int) -> None:
        super().__init__()
        # The layer that the weight is of, for its stride and padding; in a tuple, so that it is no submodule of this.
        self._layer = (module,)
        sides = [max(size, d * (k - 1) + 1) for k, d in zip(module.kernel_size, module.dilation, strict=True)]
        start = torch.randn(1, module.in_channels, *sides, generator=torch.Generator().manual_seed(0))
        self.register_buffer("vector", (start / start.norm()).to(module.weight))
        for _ in range(_STEPS_AT_FIRST):
            self._step(module.weight.detach())

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            self._step(weight.detach())
        # A copy, as the next step may write before the gradient is taken.
        return weight / convolve(self._layer[0], self.vector.clone(), weight).norm().clamp_min(1e-12)

    @torch.enable_grad()
    def _step(self, weight: Tensor) -> None:
        with unhooked():
            at = self.vector.clone().requires_grad_()
            image = convolve(self._layer[0], at, weight)
            (back,) = torch.autograd.grad(image, at, image.detach())
        self.vector.copy_(back / back.norm().clamp_min(1e-12))
