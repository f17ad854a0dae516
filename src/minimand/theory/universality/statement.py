"""What a statement of universal approximation says of a network, and the facts it is decided on."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ...algorithms import Algorithm
from ..dynamics.stability import Order, Stability, Tail
from ..kernel import Binding, Kernel
from ..splitting import Splitting
from .pulses import Turn, lasting_pulses

if TYPE_CHECKING:
    from ..block import BlockStructure

Verdict = Literal["universal", "not covered", "not universal"]
"""A statement holds; none applies, or its conditions are not met; or a function is named that cannot be reached."""


@dataclass(frozen=True)
class Statement:
    """One statement: whether it holds, on what condition, or what is missing and what would repair it."""

    name: str
    claim: str
    source: str
    holds: bool
    provided: tuple[str, ...] = ()
    fails: str = ""
    repair: str = ""
    obstructed: bool = False
    """Whether some function is proved to be out of reach, as `fails` says."""
    among: str = ""
    """The class of maps among which the network is universal; empty for all of its inputs' size."""
    norm: str = "sup norm on compacts"

    @property
    def verdict(self) -> Verdict:
        """How the line of a certificate begins."""
        if self.holds:
            return "universal"
        return "not universal" if self.obstructed else "not covered"

    @property
    def reason(self) -> str:
        """The claim with its conditions, or what is missing."""
        if self.holds:
            claim = f"among {self.among}: {self.claim}" if self.among else self.claim
            return claim + (f", provided {' and '.join(self.provided)}" if self.provided else "")
        return self.fails + (f"; repair: {self.repair}" if self.repair else "")

    def __str__(self) -> str:
        parts = (self.name,) if self.holds else (self.verdict, self.name)
        return ": ".join([*filter(None, parts), self.reason])


@dataclass(frozen=True)
class Evidence:
    """The facts about a network that the statements are decided on."""

    algorithm: Algorithm
    binding: Binding
    gradients: Kernel
    consistent: bool
    stability: Stability
    order: Order
    constant: Tail | None
    width: int | None = None
    d_in: int | None = None
    d_out: int | None = None
    blocks: "tuple[BlockStructure, ...]" = ()
    """The blocks of a layer as far as they are known: one, those that take turns, or those of several oracles."""
    splitting: Splitting | None = None

    @property
    def block(self) -> "BlockStructure | None":
        """The first block, where one is known."""
        return self.blocks[0] if self.blocks else None

    @property
    def attention(self) -> bool:
        """Whether one of the blocks is known to hold attention."""
        return any(block.attention for block in self.blocks)

    def pulses(self, turn: Turn | None = None) -> list[float] | None:
        """The pulses of a block that answers in turns, by default of the first oracle in each step."""
        turn = turn or Turn(self.algorithm.oracles[0], 1, {0: 1.0})
        depth = self.gradients.depth
        return lasting_pulses(self.algorithm, turn, depth, None if self.gradients.steps.goes_on(depth) else depth)


def with_proviso(statement: Statement, condition: str) -> Statement:
    """The statement, provided something that is not known."""
    return replace(statement, provided=(*statement.provided, condition))


def not_covered(statement: Statement, missing: str, repair: str = "") -> Statement:
    """The statement as one whose conditions are not met; of several that are not, the first is reported."""
    return replace(statement, holds=False, fails=missing, repair=repair) if statement.holds else statement


def needs_width(statement: Statement, e: Evidence, needed: int | None, formula: str, size: str = "width") -> Statement:
    """The statement, failed if the width is below the needed one, and provided that it is enough if one is unknown."""
    if needed is None or e.width is None:
        return with_proviso(statement, f"{size} >= {formula}")
    if e.width < needed:
        return not_covered(
            statement,
            f"{size} {e.width} is below {formula} = {needed}",
            f"a width of {needed} or more" if size == "width" else f"{needed} {size} or more",
        )
    return statement


def sum_of_sizes(e: Evidence, more: int) -> int | None:
    """d_in + d_out and so many more; None where one of the sizes is unknown."""
    return None if e.d_in is None or e.d_out is None else e.d_in + e.d_out + more


def without_its_skip(statement: Statement, e: Evidence) -> Statement:
    """The statement, provided that a skip inside of a block that is bound as a branch is the skeleton's own."""
    if e.binding == "residual" and any(block.identity == "yes" for block in e.blocks):
        return with_proviso(statement, "T is the block without its skip, which is the skeleton's own")
    return statement
