"""DenseNet (Huang et al. 2017) and AGD-Net (Li et al. 2018)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ...blocks.convolutional import convolution
from ...blocks.densely_connected import DenseLayer
from ...theory.kernel import Binding
from ..info import CIFAR, ModelInfo, Parts, bound, register, shared


def densenet(
    *,
    layers: Sequence[int],
    depth: int,
    growth: int,
    bottleneck: bool,
    imagenet: bool,
    beta: float | None,
    binding: Binding,
    num_classes: int,
    in_channels: int,
) -> Parts:
    """Stages whose state holds their input and a slot for what each layer adds; transitions read all of it.

    T is a `DenseLayer`, with a skip under the operator binding: gradient descent is DenseNet under both. There are
    `depth` layers in the proportion of `layers`, each of which adds `growth` channels. `bottleneck` is the BC form: a
    1 x 1 convolution first in each layer, and transitions that halve the channels. `imagenet` has a 7 x 7 stem with
    pooling. `beta` is the factor of AGD-Net's second sum; None is DenseNet.
    """
    channels = 2 * growth if bottleneck else 16
    start: list[nn.Module] = [convolution(in_channels, channels)]
    if imagenet:
        wide = nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False)
        start = [wide, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    stages = []
    for blocks in shared(depth, layers):
        if stages:
            narrow = channels // 2 if bottleneck else channels
            convolution_1x1 = nn.Conv2d(channels, narrow, 1, bias=False)
            start = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True), convolution_1x1, nn.AvgPool2d(2)]
            channels = narrow
        # Of the last three dimensions the channels alone are padded: the empty slots.
        start.append(nn.ZeroPad3d((0, 0, 0, 0, 0, blocks * growth)))
        dense = [DenseLayer(channels, growth, k, blocks, bottleneck, beta) for k in range(blocks)]
        stages.append((nn.Sequential(*start), [bound(layer, binding) for layer in dense]))
        channels += blocks * growth
    (stem, first), *later = stages
    norm = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    head = nn.Sequential(*norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    return Parts(stem, [(None, first), *later], head).initialized()


_SIZES: dict[str, tuple[tuple[int, ...], int, bool]] = {
    "densenet22_12": ((6, 6, 6), 12, False),
    "densenet40_12": ((12, 12, 12), 12, False),
    "densenet52_12": ((16, 16, 16), 12, False),
    "densenet_bc100_12": ((16, 16, 16), 12, True),
    "densenet121": ((6, 12, 24, 16), 32, True),
    "densenet169": ((6, 12, 32, 32), 32, True),
    "densenet201": ((6, 12, 48, 32), 32, True),
}
"""The layers of each stage, the growth, and whether layers have a bottleneck, by the name of the DenseNet."""


def _register(name: str, sizes_of: str, beta: float | None, description: str, references: tuple[str, ...]) -> None:
    layers, growth, bottleneck = _SIZES[sizes_of]
    imagenet = len(layers) == 4
    depth = (2 if bottleneck else 1) * sum(layers) + len(layers) + 1
    line = f"{'ImageNet' if imagenet else 'CIFAR'} {description.format(depth)}"
    build = partial(densenet, layers=layers, bottleneck=bottleneck, imagenet=imagenet, beta=beta)
    settings = {"depth": sum(layers), "growth": growth}
    # One pixel is left of the smallest image.
    images: dict[str, Any] = {"smallest": 29} if imagenet else {"smallest": 4, **CIFAR}
    register(ModelInfo(name, line, build, settings, "residual", references, **images))


for _name in _SIZES:
    _register(_name, _name, None, "DenseNet of {} layers; T fills the layer's slot", ("huang2017densenet",))
for _name, _densenet in {
    "agd_net22_12": "densenet22_12",
    "agd_net40_12": "densenet40_12",
    "agd_net52_12": "densenet52_12",
    "agd_net121": "densenet121",
}.items():
    # With a bottleneck the a_j stand at its 1 x 1 convolution, a choice as well.
    _description = (
        "AGD-Net of {} layers; T is equation 21 of Li et al. 2018, beta 0.1; our choice: a T for each pair of layers, "
        "a 1 at first, a transition reads all z"
    )
    _register(_name, _densenet, 0.1, _description, ("li2018optimization", "huang2017densenet"))
