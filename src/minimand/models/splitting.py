"""How the layers of a transformer are cut into the blocks of an algorithm's steps."""

from collections.abc import Callable, Sequence

from torch import nn

from ..blocks.transformer import HalfStep, ParallelLayer, SecondHalfStep, TransformerBranch, WholeLayer
from ..theory.kernel import Binding
from ..theory.splitting import Splitting, check_splitting
from .info import Block, bound

Layer = tuple[TransformerBranch, TransformerBranch]
"""Attention and the map of a layer."""


def split(
    layers: Sequence[Layer], splitting: Splitting | None, default: Splitting, oracles: Sequence[str], binding: Binding
) -> list[Block]:
    """The blocks of layers, for an algorithm that asks the oracles named.

    An algorithm of one gradient has the blocks of its splitting; attention and map are the two gradients of one that
    asks two, a step a layer.

    Raises:
        MinimandError: see `check_splitting`.
    """
    check_splitting(splitting, oracles)
    if len(oracles) == 2:
        return [{name: bound(branch, binding) for name, branch in zip(oracles, layer, strict=True)} for layer in layers]
    return [bound(block, binding) for layer in layers for block in _BLOCKS[splitting or default](*layer)]


def _strang(attend: nn.Module, map: nn.Module) -> list[nn.Module]:
    half = HalfStep(attend)
    return [half, map, SecondHalfStep(half)]


_BLOCKS: dict[Splitting, Callable[[nn.Module, nn.Module], list[nn.Module]]] = {
    "lie_trotter": lambda attend, map: [attend, map],
    "euler": lambda attend, map: [ParallelLayer(attend, map)],
    "strang": _strang,
    "whole": lambda attend, map: [WholeLayer(attend, map)],
}
