"""Vision transformers (Dosovitskiy et al. 2021; sizes of Touvron et al. 2021)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ...blocks.transformer import vision_branches
from ...layers.stochastic_depth import growing_rates
from ...theory.kernel import Binding
from ...theory.splitting import Splitting
from ..info import ModelInfo, Parts, register
from ..splitting import split


class Patches(nn.Module):
    """Patches as tokens, a token for the class before them, and their positions."""

    def __init__(self, in_channels: int, width: int, patch: int, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + (image_size // patch) ** 2, width))
        self.patches = nn.Conv2d(in_channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, image_size, image_size) to (N, 1 + patches, width)."""
        if x.shape[-2:] != (self.image_size, self.image_size):
            raise MinimandError(
                f"images are {x.shape[-2]} x {x.shape[-1]}; expected {self.image_size} x {self.image_size}: the "
                f"positions are those of one size. Create the model with image_size={x.shape[-1]}, and a patch that "
                "divides it."
            )
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(x), -1, -1), tokens], dim=1) + self.positions


class ClassToken(nn.Module):
    """Pick the class token: (N, tokens, width) to (N, width)."""

    def forward(self, z: Tensor) -> Tensor:
        return z[:, 0]


def as_map(z: Tensor) -> Tensor:
    """Tokens (N, 1 + side^2, width), the class token left out, as a map (N, width, side, side)."""
    side = math.isqrt(z.shape[1] - 1)
    return z[:, 1:].transpose(1, 2).unflatten(-1, (side, side))


def vit(
    *,
    width: int,
    depth: int,
    heads: int,
    patch: int,
    image_size: int,
    drop_path: float,
    splitting: Splitting | None,
    oracles: Sequence[str],
    binding: Binding,
    num_classes: int,
    in_channels: int,
) -> Parts:
    """One stage of `depth` transformer layers on tokens of `width` channels, for patches and images of sides in pixels.

    `drop_path` is the probability of dropping the last block in training; it grows linearly from 0 in the first.
    An algorithm of one gradient asks whole layers, unless a splitting says otherwise.
    """
    if image_size % patch:
        raise MinimandError(f"patch is {patch}; expected a divisor of image_size = {image_size}.")
    if width % heads:
        raise MinimandError(f"width is {width}; expected a multiple of heads = {heads}.")
    layers = [vision_branches(width, heads, rate) for rate in growing_rates(drop_path, depth)]
    for branch in (branch for layer in layers for branch in layer):
        for module in branch.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
    blocks = split(layers, splitting, "whole", oracles, binding)
    head = nn.Sequential(nn.LayerNorm(width, eps=1e-6), ClassToken(), nn.Linear(width, num_classes))
    stem, normalize = Patches(in_channels, width, patch, image_size), partial(nn.LayerNorm, width, eps=1e-6, bias=False)
    return Parts(stem, [(None, blocks)], head, as_map, normalize)


for _name, _width, _heads in (("vit_tiny", 192, 3), ("vit_small", 384, 6), ("vit_base", 768, 12)):
    _line = f"vision transformer of 12 blocks, {_width} channels, {_heads} heads; T(z) = A(z) + M(z + A(z))"
    _settings = {"width": _width, "depth": 12, "heads": _heads, "patch": 16, "image_size": 224, "drop_path": 0.0}
    _settings["splitting"] = None
    _references, _multiples = ("dosovitskiy2021vit", "touvron2021deit"), {"width": _heads, "image_size": 16}
    register(ModelInfo(_name, _line, vit, _settings, "residual", _references, multiples=_multiples))
