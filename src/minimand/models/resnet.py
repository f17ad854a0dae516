"""Residual networks for small images (He et al. 2016; Zagoruyko & Komodakis 2016)."""

from collections.abc import Callable
from functools import partial

from torch import nn

from ..blocks.convolutional import (
    PaddedShortcut,
    Skip,
    convolution,
    initialize,
    post_activation,
    pre_activation,
    projection as projection_shortcut,
)
from ..theory.kernel import Binding
from .info import CIFAR, Parts, register, shared


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
    """Three stages of width, 2 width and 4 width channels.

    A block that changes the shape is a transition: an ordinary residual block, after which the algorithm
    starts anew. Under the residual binding T is a block's branch; under the operator binding it is the whole
    block, its skip and last activation included.

    Args:
        depth: blocks of all stages, transitions included; where they cannot be as many in each, the first has more.
        width: channels of the first stage, before widening.
        preactivation: normalization and activation before each convolution, not after.
        projection: shortcuts that change the shape are learned, not padded with zeros.
        widening: factor on the channels of all stages.
        plain: blocks without a skip under the operator binding too.
    """
    branch = pre_activation if preactivation else post_activation

    def activation() -> nn.Module:
        return nn.Identity() if preactivation else nn.ReLU(inplace=True)

    def block(channels: int) -> nn.Module:
        inner = branch(channels, channels)
        return inner if plain or binding == "residual" else Skip(inner, nn.Identity(), activation())

    def transition(channels: int, out_channels: int, stride: int) -> nn.Module:
        shortcut = projection_shortcut if projection else PaddedShortcut
        return Skip(branch(channels, out_channels, stride), shortcut(channels, out_channels, stride), activation())

    stages = []
    channels = width
    for i, blocks in enumerate(shared(depth, (1, 1, 1))):
        out_channels, stride = width * widening * 2**i, 1 if i == 0 else 2
        if (out_channels, stride) == (channels, 1):
            stages.append((None, [block(channels) for _ in range(blocks)]))
        else:
            change = transition(channels, out_channels, stride)
            stages.append((change, [block(out_channels) for _ in range(blocks - 1)]))
        channels = out_channels
    norm = [nn.BatchNorm2d(width if not preactivation else channels), nn.ReLU(inplace=True)]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    stem = nn.Sequential(convolution(in_channels, width), *([] if preactivation else norm))
    head = nn.Sequential(*(norm if preactivation else []), *pool)
    parts = Parts(stem, stages, head)
    for module in parts.modules:
        initialize(module)
    return parts


_POST_ACTIVATION = partial(resnet, preactivation=False, projection=False)


def _register(
    layers: dict[str, int],
    description: str,
    build: Callable[..., Parts],
    binding: Binding,
    references: tuple[str, ...],
    algorithm: str = "gradient_descent",
) -> None:
    for name, n in layers.items():
        line, settings = description.format(n, (n - 4) // 6 - 1), {"depth": (n - 2) // 6 * 3, "width": 16}
        register(name, line, build, settings, binding, references, algorithm=algorithm, **CIFAR)


_register(
    {"resnet20": 20, "resnet32": 32, "resnet44": 44, "resnet56": 56, "resnet110": 110},
    "CIFAR ResNet of {} layers, post-activation; T is the whole block",
    _POST_ACTIVATION,
    "operator",
    ("he2016resnet",),
)
_register(
    {
        "preact_resnet20": 20,
        "preact_resnet32": 32,
        "preact_resnet44": 44,
        "preact_resnet56": 56,
        "preact_resnet110": 110,
    },
    "CIFAR ResNet of {} layers, pre-activation; T is the branch",
    partial(resnet, preactivation=True, projection=False),
    "residual",
    ("he2016identity",),
)
_register(
    {"wrn16_4": 16, "wrn28_4": 28},
    "wide ResNet of {} layers, 4 times as wide, pre-activation; T is the branch, of which a stage has {}",
    partial(resnet, widening=4, preactivation=True, projection=True),
    "residual",
    ("zagoruyko2016wide",),
)
# Li et al. 2018: x_next = T(x) + x - x_previous, T two convolutions without a skip. What the paper leaves open: a stage
# starts with x_previous = x, a block that changes the shape is an ordinary residual one, nothing follows the sum.
_register(
    {"hb_net20": 20, "hb_net56": 56, "hb_net110": 110},
    "HB-Net of {} layers; T is two convolutions",
    partial(_POST_ACTIVATION, plain=True),
    "operator",
    ("li2018optimization",),
    "heavy_ball(momentum=1)",
)
# Zhao et al. 2018, as in equation 20 of Li et al. 2018: each stream goes to its own T plus the mean of both.
_register(
    {"dmrnet20": 20, "dmrnet56": 56, "dmrnet110": 110},
    "DMRNet of two streams of {} layers; T is two convolutions; our choice: the streams start alike, nothing follows "
    "their sums, their mean goes through a residual block to the next stage",
    _POST_ACTIVATION,
    "residual",
    ("zhao2018dmrnet", "li2018optimization"),
    "merge_and_run",
)
