"""One statement of universal approximation as a record, and what several theorems ask of a network.

The statements U1 to U5 are short theorems with a sketch of proof in docs/theory.md.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...algorithms import Algorithm
from ..dynamics.stability import Order, Stability, Tail
from ..kernel import Binding, Kernel
from ..scalars import Number
from ..symbols import Combination

if TYPE_CHECKING:
    from ..block import BlockStructure

LI_LIN_SHEN = "Li, Lin & Shen, JEMS 2022"
"""The source of the theorems on flows."""


@dataclass(frozen=True)
class Statement:
    """One statement: whether it holds, on what condition, or what fails and what would repair it."""

    name: str
    claim: str
    source: str
    holds: bool
    provided: tuple[str, ...] = ()
    fails: str = ""
    repair: str = ""

    def __str__(self) -> str:
        if self.holds:
            return f"{self.name}: {self.claim}" + (f", provided {' and '.join(self.provided)}" if self.provided else "")
        return f"not {self.name}: {self.fails}" + (f"; repair: {self.repair}" if self.repair else "")


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
    block: "BlockStructure | None" = None


def needs_flow(statement: Statement, e: Evidence) -> Statement:
    """The statement with what universality through flows asks of the width and of the blocks."""
    needed = None if e.d_in is None or e.d_out is None else max(e.d_in, e.d_out, 2)
    return needs_block(needs_width(statement, e, needed, "max(d_in, d_out, 2)"), e)


def needs_width(statement: Statement, e: Evidence, needed: int | None, formula: str) -> Statement:
    """The statement, failed if the width is below the needed one, and provided that it is enough if one is unknown."""
    if needed is None or e.width is None:
        return provided(statement, f"width >= {formula}")
    if e.width < needed:
        return failed(statement, f"width {e.width} is below {formula} = {needed}", f"a width of {needed} or more")
    return statement


def needs_block(statement: Statement, e: Evidence) -> Statement:
    """The statement with what it asks of a block: T is 0, or the identity, plus any two-layer map."""
    skip = "the identity plus " if e.binding == "operator" else ""
    if e.block is None:
        return provided(statement, f"T can be {skip}any two-layer map of the whole state")
    if e.block.convolutional:
        reading = "read the block as fully connected, where the statement holds"
        return failed(
            statement,
            "the block is convolutional: no full two-layer map of the whole state, which no theorem here covers",
            reading if e.block.two_layer == "yes" else "",
        )
    if e.block.two_layer == "no":
        return failed(statement, f"the block has {e.block.reason}", "a block with one hidden layer")
    if skip and e.block.identity == "no":
        return failed(statement, "under the operator binding the block has to contain a skip", "add one")
    if e.block.two_layer == "unknown" or (skip and e.block.identity == "unknown"):
        return provided(statement, f"T can be {skip}any two-layer map of the whole state ({e.block.reason})")
    return provided(statement, "the state is one vector (token-wise, the block is no map of the whole input)")


def provided(statement: Statement, condition: str) -> Statement:
    """The statement with one more condition."""
    return replace(statement, provided=(*statement.provided, condition))


def failed(statement: Statement, fails: str, repair: str) -> Statement:
    """The statement as one that fails; of several conditions that fail, the first is reported."""
    return replace(statement, holds=False, fails=fails, repair=repair) if statement.holds else statement


def layers_without_gain(gradients: Kernel, output: Combination | None = None) -> list[int]:
    """The layers none of whose blocks reaches the output; the answers of one block add up."""
    output = gradients.output if output is None else output
    gains: dict[tuple[int, str], Number] = {}
    for query in gradients.queries:
        block = query.answer.layer, query.answer.oracle
        gains[block] = gains.get(block, Number.of(0)) + output.coefficient(query.answer)
    heard = {layer for (layer, _), gain in gains.items() if not gain.same(0)}
    return [k for k in range(gradients.depth) if k not in heard]


def repair_of_gains(e: Evidence) -> str:
    """Words for what would make every gain nonzero."""
    last_two = (e.gradients.queries[-1].point + e.gradients.output) / 2
    if not layers_without_gain(e.gradients, last_two):
        return "read out the mean of the last two states"
    return "coefficients, or a read-out, with which every gain is nonzero"
