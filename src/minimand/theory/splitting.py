"""How the two branches of a transformer layer, attention and map, become blocks of an algorithm."""

from typing import Literal, get_args

from .._support.errors import unknown_name

Splitting = Literal["whole", "euler", "lie_trotter", "strang"]
"""The ways to cut a transformer layer into blocks T.

One step, T(z) = A(z) + M(z + A(z)); one step, T(z) = A(z) + M(z); two steps, A and M in turns; three steps, A / 2, M
and A / 2 again, with one A. For methods with momentum "lie_trotter" lets the oracles take turns, which the field calls
Lie-Trotter splitting.
"""

STEPS: dict[Splitting, int] = {"whole": 1, "euler": 1, "lie_trotter": 2, "strang": 3}
"""The number of steps of the algorithm in a layer."""

TURNS = "the oracles take turns, and each block is one Euler step of its part: no order above 1"
"""The reason for which a split layer has no higher order, whatever the algorithm's."""


def check_splitting(value: object) -> None:
    """Raise ValueError unless the value is a splitting."""
    if value not in get_args(Splitting):
        raise unknown_name("splitting", str(value), get_args(Splitting))
