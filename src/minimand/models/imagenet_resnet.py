"""Residual networks for ImageNet (He et al. 2016), post-activation, with learned shortcuts."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from ..blocks.convolutional import Skip, bottleneck, initialize, post_activation
from ..theory.kernel import Binding
from .info import ModelInfo, Parts, register


def imagenet_resnet(
    *, depths: Sequence[int], bottlenecks: bool, width: int, binding: Binding, num_classes: int, in_channels: int
) -> Parts:
    """Four stages after a 7 x 7 stem; a block that changes the shape is a transition.

    Under the operator binding T is the whole block; under the residual binding its branch, and the last
    activation of a block is left out, as it is no part of a residual step.

    Args:
        depths: blocks of each stage, the transition included.
        bottlenecks: blocks of three convolutions, four times as wide.
        width: channels of the stem.
    """
    branch, expansion = (bottleneck, 4) if bottlenecks else (post_activation, 1)

    def block(channels: int) -> nn.Module:
        made = branch(channels, channels)
        return made if binding == "residual" else Skip(made, nn.Identity(), nn.ReLU(inplace=True))

    stem = nn.Sequential(
        nn.Conv2d(in_channels, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    )
    stages = []
    channels = width
    for i, depth in enumerate(depths):
        out_channels, stride = expansion * width * 2**i, 1 if i == 0 else 2
        change = None
        if (out_channels, stride) != (channels, 1):
            shortcut = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
            change = Skip(branch(channels, out_channels, stride), shortcut, nn.ReLU(inplace=True))
        stages.append((change, [block(out_channels) for _ in range(depth - (change is not None))]))
        channels = out_channels
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    parts = Parts(stem, stages, head)
    for module in parts.modules:
        initialize(module)
    return parts


for _depth, _depths, _bottlenecks in (
    (18, (2, 2, 2, 2), False),
    (34, (3, 4, 6, 3), False),
    (50, (3, 4, 6, 3), True),
    (101, (3, 4, 23, 3), True),
):
    register(
        ModelInfo(
            f"resnet{_depth}",
            f"ImageNet ResNet of {_depth} layers, post-activation; T is the whole block",
            partial(imagenet_resnet, depths=_depths, bottlenecks=_bottlenecks),
            {"width": 64},
            "operator",
            ("he2016resnet",),
        )
    )
