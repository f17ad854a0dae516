"""The two-convolution blocks of residual networks (He et al. 2016)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._support.errors import MinimandError
from .registry import block


def convolution(channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution, padded, without bias as a normalization follows."""
    return nn.Conv2d(channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)


@block("post_activation", (3, 4, 5, 5), channels=4)
def post_activation(channels: int, out_channels: int | None = None, stride: int = 1) -> nn.Sequential:
    """Conv-BN-ReLU-Conv-BN: (N, channels, H, W) to (N, out_channels, H / stride, W / stride)."""
    out_channels = out_channels or channels
    return nn.Sequential(
        convolution(channels, out_channels, stride),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        convolution(out_channels, out_channels),
        nn.BatchNorm2d(out_channels),
    )


@block("pre_activation", (3, 4, 5, 5), channels=4)
def pre_activation(channels: int, out_channels: int | None = None, stride: int = 1) -> nn.Sequential:
    """BN-ReLU-Conv-BN-ReLU-Conv: (N, channels, H, W) to (N, out_channels, H / stride, W / stride)."""
    out_channels = out_channels or channels
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        convolution(channels, out_channels, stride),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        convolution(out_channels, out_channels),
    )


@block("bottleneck", (3, 8, 5, 5), channels=8)
def bottleneck(
    channels: int, out_channels: int | None = None, stride: int = 1, groups: int = 1, widening: int = 1
) -> nn.Sequential:
    """1 x 1 to a quarter, 3 x 3, 1 x 1 back: (N, channels, H, W) to (N, out_channels, H / stride, W / stride).

    In `groups` of channels, and `widening` times as wide inside, it is the block of ResNeXt (Xie et al. 2017).
    """
    out_channels = out_channels or channels
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
    """A residual block as a whole: activation(shortcut(x) + branch(x))."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.activation = branch, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.shortcut(x) + self.branch(x))


class PaddedShortcut(nn.Module):
    """The shortcut without parameters (He et al. 2016, option A): every second pixel, the new channels zero."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        before = (out_channels - channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - channels - before)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def projection(channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    """The learned 1 x 1 shortcut (He et al. 2016, option B)."""
    return nn.Conv2d(channels, out_channels, 1, stride, bias=False)


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """Draw the weights of every convolution of a module by He's rule, with fan-out."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
