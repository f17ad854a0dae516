"""The feedforward networks that hard thresholds were studied on (Friesen & Domingos 2018; Zhou et al. 2016).

Plain sequences with ReLUs; `mm.harden` makes them networks of steps. `width` is the channels of the first layer, which
the others follow.
"""

import math

from torch import nn

from ..._support.checks import check_number
from ...layers.reshaping import FlattenOf
from ..info import plain


@plain("convnet4", "friesen2018", image_size=32, smallest=32)
def convnet4(num_classes: int = 10, in_channels: int = 3, width: int = 32) -> nn.Sequential:
    """Two convolutions and two linear layers for images of 32 x 32, without normalization."""
    check_number("width", width, 1, math.inf, whole=True)
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 5, padding=3),
        *(nn.MaxPool2d(2), nn.ReLU()),
        nn.Conv2d(width, 2 * width, 5, padding=2),
        *(nn.MaxPool2d(2), nn.ReLU()),
        *(FlattenOf(128 * width, 32), nn.Linear(128 * width, 32 * width), nn.ReLU()),
        nn.Linear(32 * width, num_classes),
    )


@plain("convnet8", "zhou2016dorefa", "friesen2018", image_size=32, smallest=32)
def convnet8(num_classes: int = 10, in_channels: int = 3, width: int = 48) -> nn.Sequential:
    """Seven convolutions and a linear layer for images of 32 x 32: DoReFa-Net's network for SVHN."""
    a, b, c, d = _widths(width, 48, 64, 128, 512)
    return nn.Sequential(
        *(nn.Conv2d(in_channels, a, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()),
        *_normalized(nn.Conv2d(a, b, 3, padding=1, bias=False)),
        *_normalized(nn.Conv2d(b, b, 3, padding=1, bias=False), nn.MaxPool2d(2)),
        *_normalized(nn.Conv2d(b, c, 3, bias=False)),
        *_normalized(nn.Conv2d(c, c, 3, padding=1, bias=False)),
        *_normalized(nn.Conv2d(c, c, 3, bias=False)),
        nn.Dropout2d(0.5),
        *_normalized(nn.Conv2d(c, d, 4, bias=False)),
        *(FlattenOf(d, 32), nn.Linear(d, num_classes)),
    )


@plain("alexnet_dorefa", "zhou2016dorefa", "friesen2018", image_size=224, smallest=224)
def alexnet_dorefa(num_classes: int = 1000, in_channels: int = 3, width: int = 96) -> nn.Sequential:
    """DoReFa-Net's AlexNet for images of 224 x 224: batch normalization, no groups, no dropout."""
    a, b, c, d = _widths(width, 96, 256, 384, 4096)
    return nn.Sequential(
        *(nn.Conv2d(in_channels, a, 12, 4, bias=False), nn.ReLU()),
        *_normalized(nn.Conv2d(a, b, 5, padding=2, bias=False), nn.MaxPool2d(3, 2, 1)),
        *_normalized(nn.Conv2d(b, c, 3, padding=1, bias=False), nn.MaxPool2d(3, 2)),
        *_normalized(nn.Conv2d(c, c, 3, padding=1, bias=False)),
        *_normalized(nn.Conv2d(c, b, 3, padding=1, bias=False), nn.MaxPool2d(3, 2)),
        FlattenOf(36 * b, 224),
        *(nn.Linear(36 * b, d, bias=False), nn.BatchNorm1d(d, eps=1e-4), nn.ReLU()),
        *(nn.Linear(d, d, bias=False), nn.BatchNorm1d(d, eps=1e-4), nn.ReLU()),
        nn.Linear(d, num_classes),
    )


def _widths(width: int, *published: int) -> list[int]:
    """Widths in the published proportion to the first one."""
    check_number("width", width, 1, math.inf, whole=True)
    return [round(width * p / published[0]) for p in published]


def _normalized(convolution: nn.Conv2d, *pooling: nn.Module) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels, eps=1e-4), *pooling, nn.ReLU()]
