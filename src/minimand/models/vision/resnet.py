"""Residual networks for CIFAR and ImageNet (He et al. 2016; Zagoruyko & Komodakis 2016; Xie et al. 2017)."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from ..._support.errors import MinimandError
from ...blocks.convolutional import (
    PaddedShortcut,
    Skip,
    bottleneck,
    convolution,
    post_activation,
    pre_activation,
    projection as projection_shortcut,
)
from ...theory.kernel import Binding
from ..info import CIFAR, ModelInfo, Parts, bound, register, shared


def resnet(
    *,
    depth: int,
    width: int,
    preactivation: bool,
    projection: bool,
    binding: Binding,
    num_classes: int,
    in_channels: int,
    widening: int = 1,
    plain: bool = False,
) -> Parts:
    """Three stages of width, 2 width and 4 width channels, for small images.

    A block that changes the shape is a transition: an ordinary residual block, after which the algorithm starts anew.
    Under the residual binding T is a block's branch; under the operator binding it is the whole block, its skip and
    last activation included, unless the blocks are `plain`. There are `depth` blocks, transitions included; where they
    cannot be as many in each stage, the first has more. With `projection` shortcuts that change the shape are learned,
    not padded with zeros. `widening` is a factor on the channels of all stages.
    """
    branch = pre_activation if preactivation else post_activation
    shortcut = projection_shortcut if projection else PaddedShortcut

    def activation() -> nn.Module:
        return nn.Identity() if preactivation else nn.ReLU(inplace=True)

    def block(channels: int) -> nn.Module:
        return bound(branch(channels, channels), "residual" if plain else binding, activation())

    def transition(channels: int, out: int, stride: int) -> nn.Module:
        return Skip(branch(channels, out, stride), shortcut(channels, out, stride), activation())

    widths = [width * widening * 2**i for i in range(3)]
    stages = _stages(shared(depth, (1, 1, 1)), width, widths, transition, block)
    norm = [nn.BatchNorm2d(widths[-1] if preactivation else width), nn.ReLU(inplace=True)]
    head = nn.Sequential(*(norm if preactivation else []), *_classifier(widths[-1], num_classes))
    stem = nn.Sequential(convolution(in_channels, width), *([] if preactivation else norm))
    return Parts(stem, stages, head).initialized()


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
    """Four stages after a 7 x 7 stem, post-activation; a block that changes the shape is a transition.

    Under the operator binding T is the whole block; under the residual binding its branch, and the last activation of a
    block is left out, as it is no part of a residual step. There are `depth` blocks in the proportion of `depths`,
    transitions included. Bottlenecks have three convolutions and are four times as wide; `groups` and `widening` are
    those of the middle one (ResNeXt). `small_images` have a 3 x 3 stem that keeps the size.
    """
    if width * widening % groups:
        least = math.lcm(groups, widening) // widening
        raise MinimandError(
            f"width is {width}; expected a multiple of {least}: {groups} groups have to share the channels."
        )
    branch = partial(bottleneck, groups=groups, widening=widening) if bottlenecks else post_activation

    def block(channels: int) -> nn.Module:
        return bound(branch(channels, channels), binding, nn.ReLU(inplace=True))

    def transition(channels: int, out: int, stride: int) -> nn.Module:
        shortcut = nn.Sequential(projection_shortcut(channels, out, stride), nn.BatchNorm2d(out))
        return Skip(branch(channels, out, stride), shortcut, nn.ReLU(inplace=True))

    first = convolution(in_channels, width) if small_images else nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
    pool = [] if small_images else [nn.MaxPool2d(3, 2, 1)]
    stem = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(inplace=True), *pool)
    widths = [(4 if bottlenecks else 1) * width * 2**i for i in range(len(depths))]
    stages = _stages(shared(depth, depths), width, widths, transition, block)
    return Parts(stem, stages, nn.Sequential(*_classifier(widths[-1], num_classes))).initialized()


def _stages(
    depths: Sequence[int],
    channels: int,
    widths: Sequence[int],
    transition: Callable[[int, int, int], nn.Module],
    block: Callable[[int], nn.Module],
) -> list[tuple[nn.Module | None, list[nn.Module]]]:
    """The stages of the given depths and widths; all but the first halve the sides of an image."""
    stages = []
    for i, (blocks, out) in enumerate(zip(depths, widths, strict=True)):
        change = transition(channels, out, 2 if i else 1) if i or out != channels else None
        stages.append((change, [block(out) for _ in range(blocks - (change is not None))]))
        channels = out
    return stages


def _classifier(channels: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]


def _register_cifar(
    names: Sequence[str],
    description: str,
    build: Callable[..., Parts],
    binding: Binding,
    references: tuple[str, ...],
    algorithm: str = "gradient_descent",
) -> None:
    for name in names:
        n = int(re.findall(r"\d+", name)[0])  # the number of layers, from the name
        line, settings = description.format(n, (n - 4) // 6 - 1), {"depth": (n - 2) // 6 * 3, "width": 16}
        register(ModelInfo(name, line, build, settings, binding, references, algorithm=algorithm, **CIFAR))


_BASIC = partial(resnet, preactivation=False, projection=False)
_names: tuple[str, ...] = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
_line = "CIFAR ResNet of {} layers, post-activation; T is the whole block"
_register_cifar(_names, _line, _BASIC, "operator", ("he2016resnet",))

_names = ("preact_resnet20", "preact_resnet32", "preact_resnet44", "preact_resnet56", "preact_resnet110")
_line = "CIFAR ResNet of {} layers, pre-activation; T is the branch"
_build = partial(resnet, preactivation=True, projection=False)
_register_cifar(_names, _line, _build, "residual", ("he2016identity",))

_line = "wide ResNet of {} layers, 4 times as wide, pre-activation; T is the branch, of which a stage has {}"
_build = partial(resnet, widening=4, preactivation=True, projection=True)
_register_cifar(("wrn16_4", "wrn28_4"), _line, _build, "residual", ("zagoruyko2016wide",))

# Li et al. 2018: x_next = T(x) + x - x_previous, T two convolutions without a skip. What the paper leaves open: a stage
# starts with x_previous = x, a block that changes the shape is an ordinary residual one, nothing follows the sum.
_names, _line = ("hb_net20", "hb_net56", "hb_net110"), "HB-Net of {} layers; T is two convolutions"
_build = partial(_BASIC, plain=True)
_register_cifar(_names, _line, _build, "operator", ("li2018optimization",), "heavy_ball(momentum=1)")

# Zhao et al. 2018, as in equation 20 of Li et al. 2018: each stream goes to its own T plus the mean of both.
_names = ("dmrnet20", "dmrnet56", "dmrnet110")
_line = (
    "DMRNet of two streams of {} layers; T is two convolutions; our choice: the streams start alike, nothing follows "
    "their sums, their mean goes through a residual block to the next stage"
)
_register_cifar(_names, _line, _BASIC, "residual", ("zhao2018dmrnet", "li2018optimization"), "merge_and_run")


def _register_imagenet(
    name: str, what: str, reference: str, depths: Sequence[int], bottlenecks: bool, **options: int
) -> None:
    line, settings = f"ImageNet {what}, post-activation; T is the whole block", {"depth": sum(depths), "width": 64}
    build = partial(imagenet_resnet, depths=depths, bottlenecks=bottlenecks, **options)
    multiples = {"width": options.get("groups", 1) // options.get("widening", 1)}
    register(ModelInfo(name, line, build, settings, "operator", (reference,), multiples=multiples))


_register_imagenet("resnet18", "ResNet of 18 layers", "he2016resnet", (2, 2, 2, 2), False)
_register_imagenet("resnet34", "ResNet of 34 layers", "he2016resnet", (3, 4, 6, 3), False)
_register_imagenet("resnet50", "ResNet of 50 layers", "he2016resnet", (3, 4, 6, 3), True)
_register_imagenet("resnet101", "ResNet of 101 layers", "he2016resnet", (3, 4, 23, 3), True)
for _name, _layers, _depths, _width in (
    ("resnext50_32x4d", 50, (3, 4, 6, 3), 4),
    ("resnext101_32x8d", 101, (3, 4, 23, 3), 8),
):
    _line = f"ResNeXt of {_layers} layers, 32 groups of {_width} channels in the first stage"
    _register_imagenet(_name, _line, "xie2017resnext", _depths, True, groups=32, widening=_width // 2)
_line = "ResNet of 18 layers with a 3 x 3 stem, for images of 32 x 32, post-activation; T is the whole block"
_build = partial(imagenet_resnet, depths=(2, 2, 2, 2), bottlenecks=False, small_images=True)
register(ModelInfo("cifar_resnet18", _line, _build, {"depth": 8, "width": 64}, "operator", ("he2016resnet",), **CIFAR))
