"""Which statements of universal approximation hold for the network that an algorithm gives.

The statements U1 to U5 are short theorems with a sketch of proof in docs/theory.md.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from ..algorithms._algorithm import Algorithm, is_proximal
from .dynamics.response import gains
from .dynamics.stability import ALLOWED_GROWTH, HORIZON, Order, Stability, Tail, friction, is_root_bounded_but_at_one
from .equivalence import equivalent
from .kernel import Binding, Kernel
from .scalars import TOLERANCE, Number
from .symbols import Combination

if TYPE_CHECKING:
    from .block import BlockStructure

_LI = "Li, Lin & Shen, JEMS 2022"


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
    """What the statements are decided on."""

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


def statements(evidence: Evidence) -> tuple[Statement, ...]:
    """U1 to U5 for one network; those that do not apply to its kind are left out."""
    found = [_u1(evidence), _u2(evidence)]
    found += [s for s in (_u3(evidence), _u4(evidence), _u5(evidence)) if s is not None]
    return tuple(found)


def _u1(e: Evidence) -> Statement:
    statement = Statement(
        "U1",
        "equals any shallow net with as many neurons as layers, in the sup norm",
        "lift (u, 0) of Wu et al. 2024; exact, docs/theory.md",
        True,
    )
    needed = None if e.d_in is None or e.d_out is None else e.d_in + e.d_out
    statement = _needs_width(statement, e, needed, "d_in + d_out")
    statement = _needs_block(statement, e)
    if not e.consistent:
        return _failed(statement, "not consistent", "make the coefficients of the states sum to one")
    deaf = _deaf_layers(e.gradients)
    if deaf:
        listed = ", ".join(map(str, deaf[:6])) + (", ..." if len(deaf) > 6 else "")
        return _failed(statement, f"the gain of layer {listed} is 0", _louder(e))
    return statement


def _u2(e: Evidence) -> Statement:
    statement = Statement(
        "U2",
        "is dense in L^p, p < inf, as depth grows and T shrinks like 1/depth",
        f"flows of a convergent method: {_LI}; Wu et al. 2024",
        True,
    )
    needed = None if e.d_in is None or e.d_out is None else max(e.d_in, e.d_out, 2)
    statement = _needs_width(statement, e, needed, "max(d_in, d_out, 2)")
    statement = _needs_block(statement, e)
    if not e.consistent:
        return _failed(statement, "not consistent", "make the coefficients of the states sum to one")
    if not e.stability.stable:
        return _failed(statement, f"not zero-stable: {e.stability.reason}", "a momentum constant or capped below 1")
    if e.constant is not None and e.order.speed is None:
        return _failed(statement, e.order.reason, "")
    if e.constant is None:
        near, far = (float(gains(e.algorithm, d).min()) for d in (e.gradients.depth, HORIZON * e.gradients.depth))
        if far < near / ALLOWED_GROWTH or near < TOLERANCE:
            why = f"numerically: the smallest gain is {near:.3g} over {e.gradients.depth} layers"
            why += f" and {far:.3g} over {HORIZON * e.gradients.depth}: it is not bounded from below"
            return _failed(statement, why, _louder(e) if near < TOLERANCE else "a step size that does not vanish")
    return statement


def _u3(e: Evidence) -> Statement | None:
    statement = Statement(
        "U3",
        "as U2, by its limit of second order in time, with T shrinking like 1/depth^2",
        f"x'' + c x' = G_t + G_x G + c G follows x' = G: docs/theory.md; {_LI}",
        True,
    )
    if not e.consistent:
        return None
    if e.constant is not None:
        if e.order.second_order is None or not is_root_bounded_but_at_one(e.constant.system.poles):
            return None
    else:
        c = friction(e.algorithm)
        if c is None:
            return None
        statement = replace(statement, claim=f"{statement.claim} (numerically: x'' + ({c:.3g}/t) x')")
    needed = None if e.d_in is None or e.d_out is None else max(e.d_in, e.d_out, 2)
    return _needs_block(_needs_width(statement, e, needed, "max(d_in, d_out, 2)"), e)


def _u4(e: Evidence) -> Statement | None:
    learnable = e.algorithm.learnable()
    if not learnable:
        return None
    values = [sorted({v for v in (c.low, c.high, c.initial, 0, 1) if c.low <= v <= c.high}) for c in learnable.values()]
    for chosen in product(*values):
        setting = dict(zip(learnable, chosen, strict=True))
        match = equivalent(e.algorithm.rebind(**setting), "gradient_descent", depth=4)
        if match or (match.relation == "rescaled" and match.scale):
            shown = ", ".join(f"{name} = {value:g}" for name, value in setting.items())
            statement = Statement("U4", f"contains ResNet ({shown}), so inherits its universality", _LI, True)
            needed = None if e.d_in is None or e.d_out is None else max(e.d_in, e.d_out, 2)
            return _needs_block(_needs_width(statement, e, needed, "max(d_in, d_out, 2)"), e)
    bounds = ", ".join(f"{name} in [{c.low:g}, {c.high:g}]" for name, c in learnable.items())
    statement = Statement("U4", "contains ResNet", _LI, True)
    return _failed(
        statement, f"of {bounds}, no bound, start, 0 or 1 gives gradient descent", "let the momentum reach 0"
    )


def _u5(e: Evidence) -> Statement | None:
    implicit = [q.answer for q in e.gradients.queries if is_proximal(q.answer.oracle)]
    if not implicit or len(implicit) == len(e.gradients.queries):
        return None
    explicit = replace(
        e.gradients,
        queries=tuple(q for q in e.gradients.queries if q.answer not in implicit),
        output=Combination({a: c for a, c in e.gradients.output.terms.items() if a not in implicit}),
    )
    statement = Statement(
        "U5", "contains, with its implicit blocks at 0, an explicit net as in U1", "docs/theory.md", True
    )
    if not e.consistent or _deaf_layers(explicit):
        return _failed(statement, "its explicit part alone does not meet U1", "")
    return _needs_block(statement, e)


def _needs_width(statement: Statement, e: Evidence, needed: int | None, formula: str) -> Statement:
    if needed is None or e.width is None:
        return _provided(statement, f"width >= {formula}")
    if e.width < needed:
        return _failed(statement, f"width {e.width} is below {formula} = {needed}", f"a width of {needed} or more")
    return statement


def _needs_block(statement: Statement, e: Evidence) -> Statement:
    # The lift takes T to be 0, or the identity, plus a two-layer map.
    skip = "the identity plus " if e.binding == "operator" else ""
    if e.block is None:
        return _provided(statement, f"T can be {skip}any two-layer map of the whole state")
    if e.block.convolutional:
        reading = "read the block as fully connected, where the statement holds"
        return _failed(
            statement,
            "the block is convolutional: no full two-layer map of the whole state, which no theorem here covers",
            reading if e.block.two_layer == "yes" else "",
        )
    if e.block.two_layer == "no":
        return _failed(statement, f"the block has {e.block.reason}", "a block with one hidden layer")
    if skip and e.block.identity == "no":
        return _failed(statement, "under the operator binding the block has to contain a skip", "add one")
    if e.block.two_layer == "unknown" or (skip and e.block.identity == "unknown"):
        return _provided(statement, f"T can be {skip}any two-layer map of the whole state ({e.block.reason})")
    return _provided(statement, "the state is one vector (token-wise, the block is no map of the whole input)")


def _provided(statement: Statement, condition: str) -> Statement:
    return replace(statement, provided=(*statement.provided, condition))


def _failed(statement: Statement, fails: str, repair: str) -> Statement:
    """Not overwritten: the first condition that fails is the one reported."""
    return replace(statement, holds=False, fails=fails, repair=repair) if statement.holds else statement


def _deaf_layers(gradients: Kernel, output: Combination | None = None) -> list[int]:
    """The layers none of whose blocks reaches the output; the answers of one block add up."""
    output = gradients.output if output is None else output
    heard: dict[tuple[int, str], Number] = {}
    for query in gradients.queries:
        block = query.answer.layer, query.answer.oracle
        heard[block] = heard.get(block, Number.of(0)) + output.coefficient(query.answer)
    loud = {layer for (layer, _), gain in heard.items() if not gain.same(0)}
    return [k for k in range(gradients.depth) if k not in loud]


def _louder(e: Evidence) -> str:
    last_two = (e.gradients.queries[-1].point + e.gradients.output) / 2
    if not _deaf_layers(e.gradients, last_two):
        return "read out the mean of the last two states"
    return "coefficients, or a read-out, with which every gain is nonzero"
