"""Normalizations along another axis than torch's, and switchable normalization (Luo et al. 2018)."""

from typing import cast

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from .._support.torch.internals import NormBase


class ByPosition(nn.Module):
    """A normalization of the last axis, for the channels of (N, C, ...): each position on its own."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class ByChannel(nn.Module):
    """A normalization of (N, C, L), for channels first, (N, C, ...), or last, (N, ..., C)."""

    def __init__(self, norm: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.norm, self.channels_last = norm, channels_last

    def forward(self, x: Tensor) -> Tensor:
        first = x.movedim(-1, 1) if self.channels_last else x
        y = self.norm(first.reshape(first.shape[0], first.shape[1], -1)).reshape(first.shape)
        return y.movedim(1, -1) if self.channels_last else y


class InstanceNormOfMaps(nn.InstanceNorm1d):
    """Instance normalization of (N, C, L) alone: vectors (N, C), which torch's reads as (C, L), have no positions."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 3:
            raise MinimandError(
                f"an instance normalization was given {tuple(input.shape)}; expected (N, {self.num_features}, L): a "
                "vector has no positions to normalize over. mm.normalize(model, 'layer') normalizes each vector."
            )
        return super().forward(input)


# As one of torch's normalizations it is known to whatever asks what a block contains.
class SwitchNorm(NormBase):
    """A mixture of instance, layer and batch normalization with learned weights: (N, C, ...) to the same.

    y = weight (x - mean) / sqrt(variance + eps) + bias. The mean is a convex combination of those over the positions
    of a sample and channel, over a sample, and over the batch; the variance another one, of the three variances.
    Each combination is the softmax of three numbers, equal at first. (N, C) has no positions, and the weights of the
    instance drop out. Variances are as in the authors' code: that over the positions is the unbiased one, those over a
    sample and over the batch are its mean and the biased variance of the means. Of (N, C) both are unbiased; that of a
    single number is 0. At evaluation running averages, in which the newest batch has the share `momentum`, stand in
    for those of the batch.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine)
        self.mean_weights, self.variance_weights = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise MinimandError(f"SwitchNorm was given {tuple(input.shape)}; expected (N, {self.num_features}, ...).")
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        positions = x.reshape(*x.shape[:2], -1)
        values = len(x) * positions.shape[2]
        if self.training and values < 2:
            raise MinimandError(f"SwitchNorm was given {tuple(x.shape)}; training needs two values for each channel.")
        has_positions = positions.shape[2] > 1
        variance, mean = torch.var_mean(positions, 2, correction=int(has_positions))  # (N, C)
        means, variances = [mean], [variance]
        for axis in (1, 0):  # over a sample, then the batch: the mean of the variances plus the variance of the means
            unbiased = int(not has_positions and mean.shape[axis] > 1)
            between, middle = torch.var_mean(mean, axis, correction=unbiased, keepdim=True)
            means.append(middle)
            variances.append(variance.mean(axis, keepdim=True) + between)
        running_mean, running_var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        if self.training:
            with torch.no_grad():
                running_mean.lerp_(means[2][0].to(running_mean.dtype), cast(float, self.momentum))
                running_var.lerp_(variances[2][0].to(running_var.dtype), cast(float, self.momentum))
        else:
            means[2], variances[2] = running_mean[None], running_var[None]
        first = 0 if has_positions else 1
        mean = _mixed(means[first:], self.mean_weights[first:])
        scale = (_mixed(variances[first:], self.variance_weights[first:]) + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = [*scale.shape, *[1] * (x.ndim - 2)]
        return (x * scale.reshape(shape) + shift.reshape(shape)).to(input.dtype)


def _mixed(parts: list[Tensor], weights: Tensor) -> Tensor:
    """The sum (N, C) of parts (N or 1, C or 1) weighted by the softmax of `weights`."""
    shares = weights.softmax(0)
    total = shares[0] * parts[0]
    for share, part in zip(shares[1:], parts[1:], strict=True):
        total = total + share * part
    return total
