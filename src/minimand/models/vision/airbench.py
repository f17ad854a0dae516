"""The network of airbench (Jordan 2024), the fastest to 94 % on CIFAR-10, with an algorithm for its skeleton."""

from collections.abc import Sequence

import torch
from torch import nn

from ...blocks.convolutional import convolution
from ...layers.scale import Scale
from ...theory.kernel import Binding
from ..info import CIFAR, ModelInfo, Parts, register, shared

_LOGIT_SCALE = 1 / 9
_OF_SUMS = 1e-5  # eps of the normalization of sums; not smaller, as a channel may be constant


def airbench(*, depth: int, width: int, binding: Binding, num_classes: int, in_channels: int) -> Parts:
    """Three stages of width, 4 width and 4 width channels, each begun by a convolution and max-pooling.

    The stem is a 2 x 2 convolution with the number of filters that whitening of its patches takes (the scheme
    `whiten`). Under the operator binding T is conv-BN-GELU, so that gradient descent in 3 blocks is airbench94; under
    the residual binding T is BN-GELU-conv, and BN and GELU come before the head. There are `depth` blocks, as many in
    each stage; where they cannot be, the first has more. Convolutions begin as the identity on as many channels as they
    read; BatchNorm has a weight that stays 1, and averages its statistics over few batches.
    """
    stages, channels = [], 2 * 4 * in_channels
    stem = nn.Sequential(nn.Conv2d(in_channels, channels, 2), nn.GELU())
    for blocks, out in zip(shared(depth, (1, 1, 1)), (width, 4 * width, 4 * width), strict=True):
        transition = nn.Sequential(convolution(channels, out), nn.MaxPool2d(2), *_normalized(out))
        stages.append((transition, [_block(out, binding) for _ in range(blocks)]))
        channels = out
    norm = _normalized(channels, _OF_SUMS) if binding == "residual" else []
    # Scaled before the classifier, which has no bias: the logits are the same.
    pooled = [nn.AdaptiveMaxPool2d(1), nn.Flatten(), Scale(_LOGIT_SCALE)]
    head = nn.Sequential(*norm, *pooled, nn.Linear(channels, num_classes, bias=False))
    parts = Parts(stem, stages, head)
    _begin_as_identity(stages)
    return parts


def _block(channels: int, binding: Binding) -> nn.Sequential:
    change = convolution(channels, channels)
    if binding == "residual":
        return nn.Sequential(*_normalized(channels, _OF_SUMS), change)
    return nn.Sequential(change, *_normalized(channels))


def _normalized(channels: int, eps: float = 1e-12) -> list[nn.Module]:
    norm = nn.BatchNorm2d(channels, eps=eps, momentum=0.4)
    norm.weight.requires_grad_(False)
    return [norm, nn.GELU()]


@torch.no_grad()
def _begin_as_identity(stages: Sequence[tuple[nn.Module, Sequence[nn.Module]]]) -> None:
    for transition, blocks in stages:
        for part in (transition, *blocks):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.dirac_(module.weight[: module.in_channels])


register(
    ModelInfo(
        "airbench",
        "the network of airbench94, 8 layers; T is conv-BN-GELU",
        airbench,
        {"depth": 3, "width": 64},
        "operator",
        ("jordan2024airbench",),
        smallest=9,
        **CIFAR,
    )
)
