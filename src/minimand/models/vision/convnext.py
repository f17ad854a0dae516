"""ConvNeXt and its isotropic form (Liu et al. 2022)."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from ...blocks.convnext import ConvNeXtBranch, LayerNorm2d
from ...layers.stochastic_depth import growing_rates
from ...theory.kernel import Binding
from ..info import ModelInfo, Parts, bound, register, shared


def convnext(
    *,
    depths: Sequence[int],
    depth: int,
    width: int,
    drop_path: float,
    binding: Binding,
    num_classes: int,
    in_channels: int,
) -> Parts:
    """Stages of constant width with a strided 2 x 2 convolution between them, after a stem of patches 4 x 4.

    There are `depth` blocks in the proportion of `depths`; the first stage has `width` channels, each later one twice
    as many. `drop_path` is the probability of dropping the last block in training; it grows linearly from the first.
    """
    rates = iter(growing_rates(drop_path, depth))
    widths = [width * 2**i for i in range(len(depths))]
    stem = nn.Sequential(nn.Conv2d(in_channels, widths[0], 4, 4), LayerNorm2d(widths[0], eps=1e-6))
    stages = []
    for i, (blocks, width) in enumerate(zip(shared(depth, depths), widths, strict=True)):
        down = None
        if i > 0:
            down = nn.Sequential(LayerNorm2d(widths[i - 1], eps=1e-6), nn.Conv2d(widths[i - 1], width, 2, 2))
        stages.append((down, [bound(ConvNeXtBranch(width, 1e-6, next(rates)), binding) for _ in range(blocks)]))
    return _initialized(Parts(stem, stages, _head(widths[-1], num_classes)))


def isotropic(
    *, depth: int, width: int, drop_path: float, binding: Binding, num_classes: int, in_channels: int
) -> Parts:
    """One stage, as a vision transformer has, after a stem of patches 16 x 16; no layer scale."""
    blocks = [bound(ConvNeXtBranch(width, None, rate), binding) for rate in growing_rates(drop_path, depth)]
    return _initialized(Parts(nn.Conv2d(in_channels, width, 16, 16), [(None, blocks)], _head(width, num_classes)))


def _head(width: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), LayerNorm2d(width, eps=1e-6), nn.Flatten(), nn.Linear(width, num_classes)
    )


def _initialized(parts: Parts) -> Parts:
    for part in parts.modules:
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return parts


for _name, _depths, _width in (
    ("convnext_atto", (2, 2, 6, 2), 40),
    ("convnext_tiny", (3, 3, 9, 3), 96),
    ("convnext_small", (3, 3, 27, 3), 96),
    ("convnext_base", (3, 3, 27, 3), 128),
):
    _line = f"ConvNeXt of {sum(_depths)} blocks, {_width} to {8 * _width} channels; T is the branch"
    _settings = {"depth": sum(_depths), "width": _width, "drop_path": 0.0}
    _build = partial(convnext, depths=_depths)
    register(ModelInfo(_name, _line, _build, _settings, "residual", ("liu2022convnext",), smallest=32))
for _name, _depth, _width in (("convnext_isotropic_small", 18, 384), ("convnext_isotropic_base", 18, 768)):
    _line = f"isotropic ConvNeXt of {_depth} blocks, {_width} channels; T is the branch"
    _settings = {"depth": _depth, "width": _width, "drop_path": 0.0}
    register(ModelInfo(_name, _line, isotropic, _settings, "residual", ("liu2022convnext",), smallest=16))
