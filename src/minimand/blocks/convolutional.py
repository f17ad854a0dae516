"""The two-convolution blocks of residual networks (He et al. 2016)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._support.errors import MinimandError


def convolution(channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """3 x 3, padded, without bias: a normalization follows."""
    return nn.Conv2d(channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)


def post_activation(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Conv-BN-ReLU-Conv-BN: (N, channels, H, W) to (N, out_channels, H / stride, W / stride)."""
    return nn.Sequential(
        convolution(channels, out_channels, stride),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        convolution(out_channels, out_channels),
        nn.BatchNorm2d(out_channels),
    )


def pre_activation(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """BN-ReLU-Conv-BN-ReLU-Conv: (N, channels, H, W) to (N, out_channels, H / stride, W / stride)."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        convolution(channels, out_channels, stride),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        convolution(out_channels, out_channels),
    )


def bottleneck(channels: int, out_channels: int, stride: int = 1, groups: int = 1, widening: int = 1) -> nn.Sequential:
    """1 x 1 to a quarter, 3 x 3, 1 x 1 back: (N, channels, H, W) to (N, out_channels, H / stride, W / stride).

    In `groups` of channels, and `widening` times as wide inside, it is the block of ResNeXt (Xie et al. 2017).
    """
    inner = widening * out_channels // 4
    if inner % groups:
        raise MinimandError(f"a bottleneck of {inner} channels inside cannot be split into {groups} groups.")
    return nn.Sequential(
        nn.Conv2d(channels, inner, 1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(inplace=True),
        convolution(inner, inner, stride, groups),
        nn.BatchNorm2d(inner),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class Skip(nn.Module):
    """activation(shortcut(x) + branch(x)): a residual block as a whole."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.activation = branch, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as the branch's."""
        return self.activation(self.shortcut(x) + self.branch(x))


class PaddedShortcut(nn.Module):
    """Every second pixel, new channels zero: the shortcut without parameters (He et al. 2016, option A)."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        before = (out_channels - channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - channels - before)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def projection(channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    """The learned 1 x 1 shortcut (He et al. 2016, option B)."""
    return nn.Conv2d(channels, out_channels, 1, stride, bias=False)


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """He initialization of every convolution, by fan-out."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
