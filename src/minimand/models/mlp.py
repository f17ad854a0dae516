"""Fully connected networks of constant width."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks.dense import one_layer, two_layer
from ..blocks.highway import HighwayBranch
from ..theory.kernel import Binding
from .info import ModelInfo, Parts, bound, register


def mlp(*, width: int, depth: int, hidden: int, binding: Binding, num_classes: int, in_channels: int) -> Parts:
    """A linear stem, `depth` blocks of one width, a linear head.

    Under the residual binding T is linear - ReLU - linear with `hidden` units; under the operator binding it is
    ReLU(W x), the plain layer of Li et al. 2018.
    """
    blocks = [two_layer(width, hidden) if binding == "residual" else one_layer(width) for _ in range(depth)]
    return _around(blocks, width, num_classes, in_channels)


def highway(*, width: int, depth: int, binding: Binding, num_classes: int, in_channels: int) -> Parts:
    """A linear stem, `depth` highway layers, a linear head: the highway network of gradient descent, however bound."""
    blocks = [bound(HighwayBranch(width), binding) for _ in range(depth)]
    return _around(blocks, width, num_classes, in_channels)


def _around(blocks: Sequence[nn.Module], width: int, num_classes: int, in_channels: int) -> Parts:
    stem = nn.Sequential(nn.Flatten(), nn.Linear(in_channels, width))
    head = nn.Sequential(nn.Linear(width, num_classes))
    return Parts(stem, [(None, blocks)], head, normalize=partial(nn.LayerNorm, width, bias=False))


_VECTORS: dict[str, Any] = {"takes_vectors": True, "num_classes": 10}
_line = "fully connected; T is a two-layer map (residual binding) or ReLU(W x) (operator binding)"
_settings = {"width": 64, "depth": 8, "hidden": 64}
register(ModelInfo("mlp", _line, mlp, _settings, "residual", ("wu2024optdnn", "li2018optimization"), **_VECTORS))
_line = "fully connected highway network; T(x) = t (h - x) with h = ReLU(H x) and a gate t"
register(
    ModelInfo("highway", _line, highway, {"width": 64, "depth": 8}, "residual", ("srivastava2015highway",), **_VECTORS)
)
