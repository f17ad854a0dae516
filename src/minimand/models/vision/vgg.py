"""VGG (Simonyan & Zisserman 2015), its linear layers without dropout."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from ...theory.kernel import Binding
from ..info import ModelInfo, Parts, register, shared

_GRID = 7


def vgg(
    *,
    depths: Sequence[int],
    norm: bool,
    depth: int,
    width: int,
    head_width: int,
    binding: Binding,
    num_classes: int,
    in_channels: int,
) -> Parts:
    """Five stages of 3 x 3 convolutions, each but the first begun by max-pooling, and two hidden linear layers.

    The convolution that changes the channels is a transition; under the operator binding T is ReLU(W x), so that
    gradient descent is VGG. There are `depth` convolutions in the proportion of `depths`; the first stage has `width`
    channels, the others 2, 4, 8 and 8 times as many, the hidden linear layers `head_width` units. Weights are drawn as
    He et al. have it, those of linear layers with the deviation 0.01.
    """
    stages = []
    channels = in_channels
    for i, blocks in enumerate(shared(depth, depths)):
        out = width * min(2**i, 8)
        pool = [nn.MaxPool2d(2)] if i else []
        change = nn.Sequential(*pool, *_convolution(channels, out, norm))
        same = [nn.Sequential(*_convolution(out, out, norm)) for _ in range(blocks - 1)]
        stages.append((change, same))
        channels = out
    pooled = [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(_GRID), nn.Flatten()]
    hidden = [nn.Linear(channels * _GRID**2, head_width), nn.ReLU(), nn.Linear(head_width, head_width), nn.ReLU()]
    head = nn.Sequential(*pooled, *hidden, nn.Linear(head_width, num_classes))
    parts = Parts(nn.Identity(), stages, head).initialized()
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    return parts


def _convolution(channels: int, out: int, norm: bool) -> list[nn.Module]:
    normalized = [nn.BatchNorm2d(out)] if norm else []
    return [nn.Conv2d(channels, out, 3, padding=1), *normalized, nn.ReLU()]


for _names, _depths in {
    ("vgg11", "vgg11_bn"): (1, 1, 2, 2, 2),
    ("vgg13", "vgg13_bn"): (2, 2, 2, 2, 2),
    ("vgg16", "vgg16_bn"): (2, 2, 3, 3, 3),
    ("vgg19", "vgg19_bn"): (2, 2, 4, 4, 4),
}.items():
    for _name, _norm in zip(_names, (False, True), strict=True):
        _line = f"VGG of {sum(_depths) + 3} layers{', batch-normalized' if _norm else ''}; T is ReLU(W x)"
        _settings = {"depth": sum(_depths), "width": 64, "head_width": 4096}
        _build = partial(vgg, depths=_depths, norm=_norm)
        register(ModelInfo(_name, _line, _build, _settings, "operator", ("simonyan2015",), smallest=32))
