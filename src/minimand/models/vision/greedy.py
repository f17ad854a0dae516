"""The networks of greedy and decoupled training (Belilovsky et al. 2019; Belilovsky et al. 2020).

Plain sequences of blocks and a head, so that `mm.Layerwise` trains a convolution at a time.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ..._support.errors import MinimandError
from ...blocks.convolutional import initialize
from ...layers.heads import Auxiliary, auxiliary
from ...layers.reshaping import SpaceToDepth
from ..info import integer, plain


@plain("greedy_cifar", "belilovsky2019greedy", image_size=32)
def greedy_cifar(
    k: int = 3, num_classes: int = 10, in_channels: int = 3, width: int | None = None, head_width: int | None = None
) -> nn.Sequential:
    """The network for images of 32 x 32 that was trained layer by layer with `hidden_layers` = k.

    Five blocks of 256 channels without normalization for k = 1, else four of 128 with it; twice the channels after
    each downsampling. As the published command has it where the paper differs: downsampling before blocks 2 and 3
    (paper: 1 and 3) for k = 1, classifiers as wide as their blocks (paper: 256 and more), and only the very first
    convolution has a bias, without normalization.

    The first block has `width` channels. The head has k - 1 convolutions of `head_width` channels, by default those of
    the last block; fewer are the published "shrinking".
    """
    if k == 1:
        return _greedy(5, 256 if width is None else width, {2, 3}, k, head_width, num_classes, in_channels)
    return _greedy(4, 128 if width is None else width, {2}, k, head_width, num_classes, in_channels)


@plain("greedy_imagenet", "belilovsky2019greedy", image_size=224)
def greedy_imagenet(
    k: int = 3, num_classes: int = 1000, in_channels: int = 3, width: int | None = None, head_width: int | None = 2048
) -> nn.Sequential:
    """The network of layerwise training for images of 224 x 224: eight blocks, the first behind a downsampling.

    As in the paper's text, for k = 1 there are more before blocks 2, 3, 4 and 6, and no normalization; else before 2, 4
    and 6. The published `head_width` are 2048, 1024 and 512; k = 1 has none. The published command builds classifiers
    of a grid so fine that it cannot run; these are of 2 x 2, as the paper has them.
    """
    if k == 1:
        return _greedy(8, 256 if width is None else width, {0, 2, 3, 4, 6}, k, None, num_classes, in_channels)
    return _greedy(8, 128 if width is None else width, {0, 2, 4, 6}, k, head_width, num_classes, in_channels)


@plain("dgl_cifar", "belilovsky2020decoupled", image_size=32)
def dgl_cifar(
    head: Auxiliary = "mlp_sr", num_classes: int = 10, in_channels: int = 3, width: int = 128
) -> nn.Sequential:
    """The six blocks for images of 32 x 32 of decoupled training, max-pooled before the second and the fourth.

    Their channels are 1, 2, 2, 4, 4 and 4 times the width; the head is an auxiliary classifier like those below it.
    """
    channels = [integer("in_channels", in_channels), *(integer("width", width) * times for times in (1, 2, 2, 4, 4, 4))]
    blocks = [
        _block(a, b, True, False, nn.MaxPool2d(2) if i in (1, 3) else None)
        for i, (a, b) in enumerate(pairwise(channels))
    ]
    return _network(blocks, auxiliary(head, (channels[-1], 8, 8), num_classes, 2))


def _greedy(
    blocks: int, width: int, downsampled: set[int], k: int, head_width: int | None, num_classes: int, in_channels: int
) -> nn.Sequential:
    if k not in (1, 2, 3):
        raise MinimandError(f"k is {k!r}; expected 1, 2 or 3, as published.")
    norm = k > 1
    channels, layers = integer("in_channels", in_channels), []
    integer("width", width)
    if head_width is not None:
        integer("head_width", head_width)
    for j in range(blocks):
        down = j in downsampled
        out = width * 2 ** sum(0 < i <= j for i in downsampled)
        layers.append(_block(channels * (4 if down else 1), out, norm, j == 0, SpaceToDepth() if down else None))
        channels = out
    return _network(layers, auxiliary("cnn", (channels, 8, 8), num_classes, k - 1, head_width, norm))


def _block(channels: int, out: int, norm: bool, first: bool, down: nn.Module | None) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, 3, padding=1, bias=first and not norm)
    normalized = [nn.BatchNorm2d(out)] if norm else []
    return nn.Sequential(*([down] if down else []), convolution, *normalized, nn.ReLU())


def _network(blocks: Sequence[nn.Module], head: nn.Module) -> nn.Sequential:
    network = nn.Sequential(*blocks, head)
    initialize(network)
    return network
