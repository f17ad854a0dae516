"""How the layers of a transformer are cut into the blocks of an algorithm's steps."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from .._support.errors import MinimandError
from ..algorithms import is_proximal
from ..blocks.transformer import HalfStep, ParallelLayer, SecondHalfStep, TransformerBranch, WholeLayer
from ..theory.kernel import Binding
from .info import Block, bound

Splitting = Literal["lie_trotter", "euler", "strang", "whole"]
"""How a layer of attention A and a map M becomes blocks T, the answers of an algorithm's one gradient:

- `lie_trotter`: two blocks, A and M in turns, each a step of its own;
- `euler`: one, A(z) + M(z);
- `strang`: three, A / 2, M and A / 2 again, with one attention that is asked twice;
- `whole`: one, A(z) + M(z + A(z)).

With a method that has momentum the oracles alternate, each step with the method's whole state, which the field calls
Lie-Trotter too.
"""

Layer = tuple[TransformerBranch, TransformerBranch]
"""Attention and the map of a layer."""


def split(
    layers: Sequence[Layer], splitting: Splitting | None, default: Splitting, oracles: Sequence[str], binding: Binding
) -> list[Block]:
    """The blocks of layers, for an algorithm that asks the oracles named.

    An algorithm of one gradient has the blocks of its splitting; attention and map are the two gradients of one that
    asks two, a step a layer.

    Raises:
        MinimandError: an algorithm that asks a prox or more than two gradients; a splitting for one of two.
    """
    names = ", ".join(oracles)
    if any(map(is_proximal, oracles)) or len(oracles) > 2:
        raise MinimandError(
            f"the algorithm asks {names}, but the layers of a transformer are attention and a map; expected an "
            "algorithm that asks one gradient, or two."
        )
    if len(oracles) == 2:
        if splitting is not None:
            raise MinimandError(
                f"splitting is {splitting!r}, but the algorithm asks {names}: attention and the map are its oracles, a "
                "step a layer; expected None, or an algorithm that asks one gradient."
            )
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
