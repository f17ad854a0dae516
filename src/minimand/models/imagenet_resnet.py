"""Residual networks for ImageNet (He et al. 2016; Xie et al. 2017), post-activation, with learned shortcuts."""

import math
from collections.abc import Sequence
from functools import partial

from torch import nn

from .._support.errors import MinimandError
from ..blocks.convolutional import Skip, bottleneck, convolution, initialize, post_activation, projection
from ..theory.kernel import Binding
from .info import CIFAR, Parts, register, shared


def imagenet_resnet(
    *,
    depths: Sequence[int],
    bottlenecks: bool,
    depth: int,
    width: int,
    binding: Binding,
    num_classes: int,
    in_channels: int,
    groups: int = 1,
    widening: int = 1,
    small_images: bool = False,
) -> Parts:
    """Four stages after a 7 x 7 stem; a block that changes the shape is a transition.

    Under the operator binding T is the whole block; under the residual binding its branch, and the last
    activation of a block is left out, as it is no part of a residual step.

    Args:
        depths: blocks of each stage, the transition included.
        bottlenecks: blocks of three convolutions, four times as wide.
        depth: blocks of all stages, in the proportion of `depths`.
        width: channels of the stem.
        groups: groups of the middle convolution of a bottleneck (ResNeXt).
        widening: factor on the channels of that convolution.
        small_images: a 3 x 3 stem that keeps the size, for images of 32 x 32.
    """
    if width * widening % groups:
        least = math.lcm(groups, widening) // widening
        raise MinimandError(
            f"width is {width}; expected a multiple of {least}: {groups} groups have to share the channels."
        )
    branch, expansion = (
        (partial(bottleneck, groups=groups, widening=widening), 4) if bottlenecks else (post_activation, 1)
    )

    def block(channels: int) -> nn.Module:
        inner = branch(channels, channels)
        return inner if binding == "residual" else Skip(inner, nn.Identity(), nn.ReLU(inplace=True))

    first = convolution(in_channels, width) if small_images else nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
    pool = [] if small_images else [nn.MaxPool2d(3, 2, 1)]
    stem = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(inplace=True), *pool)
    stages = []
    channels = width
    for i, blocks in enumerate(shared(depth, depths)):
        out_channels, stride = expansion * width * 2**i, 1 if i == 0 else 2
        change = None
        if (out_channels, stride) != (channels, 1):
            shortcut = nn.Sequential(projection(channels, out_channels, stride), nn.BatchNorm2d(out_channels))
            change = Skip(branch(channels, out_channels, stride), shortcut, nn.ReLU(inplace=True))
        stages.append((change, [block(out_channels) for _ in range(blocks - (change is not None))]))
        channels = out_channels
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    parts = Parts(stem, stages, head)
    for module in parts.modules:
        initialize(module)
    return parts


def _register(name: str, what: str, reference: str, depths: Sequence[int], bottlenecks: bool, **options: int) -> None:
    width_in_multiples = options.get("groups", 1) // options.get("widening", 1)
    register(
        name,
        f"ImageNet {what}, post-activation; T is the whole block",
        partial(imagenet_resnet, depths=depths, bottlenecks=bottlenecks, **options),
        {"depth": sum(depths), "width": 64},
        "operator",
        (reference,),
        multiples={"width": width_in_multiples},
    )


_register("resnet18", "ResNet of 18 layers", "he2016resnet", (2, 2, 2, 2), False)
_register("resnet34", "ResNet of 34 layers", "he2016resnet", (3, 4, 6, 3), False)
_register("resnet50", "ResNet of 50 layers", "he2016resnet", (3, 4, 6, 3), True)
_register("resnet101", "ResNet of 101 layers", "he2016resnet", (3, 4, 23, 3), True)
for _name, _layers, _depths, _width in (
    ("resnext50_32x4d", 50, (3, 4, 6, 3), 4),
    ("resnext101_32x8d", 101, (3, 4, 23, 3), 8),
):
    _line = f"ResNeXt of {_layers} layers, 32 groups of {_width} channels in the first stage"
    _register(_name, _line, "xie2017resnext", _depths, True, groups=32, widening=_width // 2)
register(
    "cifar_resnet18",
    "ResNet of 18 layers with a 3 x 3 stem, for images of 32 x 32, post-activation; T is the whole block",
    partial(imagenet_resnet, depths=(2, 2, 2, 2), bottlenecks=False, small_images=True),
    {"depth": 8, "width": 64},
    "operator",
    ("he2016resnet",),
    **CIFAR,
)
