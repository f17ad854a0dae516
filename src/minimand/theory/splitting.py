"""How the two branches of a transformer layer, attention and map, become blocks of an algorithm."""

from collections.abc import Sequence
from typing import Literal, get_args

from .._support.errors import MinimandError, unknown_name
from ..algorithms import is_proximal

Splitting = Literal["lie_trotter", "euler", "strang", "whole"]
"""How a layer of attention A and a map M becomes blocks T, the answers of an algorithm's one gradient:

- `whole`: one, A(z) + M(z + A(z));
- `euler`: one, A(z) + M(z);
- `lie_trotter`: two blocks, A and M in turns, each a step of its own;
- `strang`: three, A / 2, M and A / 2 again, with one attention that is asked twice.

With a method that has momentum the oracles alternate, each step with the method's whole state, which the field calls
Lie-Trotter too.
"""

STEPS: dict[Splitting, int] = {"whole": 1, "euler": 1, "lie_trotter": 2, "strang": 3}
"""The number of steps of the algorithm in a layer."""

HALVES = "; the first and the last step of a layer are half blocks"
"""The clause that is added to what is said of a Strang splitting."""

TURNS = "the oracles take turns, and each block is one Euler step of its part: no order above 1"
"""The reason for which a split layer has no higher order, whatever the algorithm's."""


def check_splitting(splitting: Splitting | None, oracles: Sequence[str]) -> None:
    """Check that the layers of a transformer can be cut for an algorithm that asks these oracles, maps left out.

    Raises:
        MinimandError: an unknown splitting; an algorithm that asks a prox or more than two gradients; a splitting for
            one that asks two.
    """
    if splitting is not None and splitting not in get_args(Splitting):
        raise unknown_name("splitting", str(splitting), get_args(Splitting))
    names = ", ".join(oracles)
    if any(map(is_proximal, oracles)) or len(oracles) > 2:
        raise MinimandError(
            f"the algorithm asks {names}, but the layers of a transformer are attention and a map; expected an "
            "algorithm that asks one gradient, or two."
        )
    if len(oracles) == 2 and splitting is not None:
        raise MinimandError(
            f"splitting is {splitting!r}, but the algorithm asks {names}: attention and the map are its oracles, a "
            "step a layer; expected None, or an algorithm that asks one gradient."
        )
