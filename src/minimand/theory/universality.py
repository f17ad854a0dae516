"""Which statements of universal approximation hold for a network: U1 to U5, proved in docs/theory.md."""

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from ..algorithms import Algorithm, is_proximal
from .dynamics.response import gains
from .dynamics.stability import ALLOWED_GROWTH, HORIZON, Order, Stability, Tail, friction, is_root_bounded_but_at_one
from .equivalence import equivalent
from .kernel import Binding, Kernel
from .scalars import TOLERANCE, Number
from .symbols import Combination

if TYPE_CHECKING:
    from .block import BlockStructure

_LI_LIN_SHEN = "Li, Lin & Shen, JEMS 2022"
_SUM_TO_ONE = "make the coefficients of the states sum to one"


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
    covered: bool = True
    """Whether the theorem speaks of networks of this kind at all."""

    def __str__(self) -> str:
        if self.holds:
            return f"{self.name}: {self.claim}" + (f", provided {' and '.join(self.provided)}" if self.provided else "")
        verdict = f"not {self.name}" if self.covered else f"{self.name} does not cover it"
        return f"{verdict}: {self.fails}" + (f"; repair: {self.repair}" if self.repair else "")


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


def statements(evidence: Evidence) -> tuple[Statement, ...]:
    """U1 to U5 for one network; those that do not apply to its kind are left out."""
    if evidence.gradients.maps:
        why = "answers reach the output through a normalization, which mixes all channels: open"
        claims = (("U1", "equals any shallow net"), ("U2", "is dense in L^p"))
        return tuple(Statement(name, claim, "", False, fails=why, covered=False) for name, claim in claims)
    theorems = (_shallow_nets, _flows, _second_order, _contains_resnet, _explicit_part)
    decided = [theorem(evidence) for theorem in theorems]
    return tuple(statement for statement in decided if statement is not None)


def _shallow_nets(e: Evidence) -> Statement:
    claim = "equals any shallow net with as many neurons as layers, in the sup norm"
    statement = Statement("U1", claim, "lift (u, 0) of Wu et al. 2024; exact, docs/theory.md", True)
    needed = None if e.d_in is None or e.d_out is None else e.d_in + e.d_out
    statement = _needs_block(_needs_width(statement, e, needed, "d_in + d_out"), e)
    if not e.consistent:
        return _failed(statement, "not consistent", _SUM_TO_ONE)
    if silent := _layers_without_gain(e.gradients):
        listed = ", ".join(map(str, silent[:6])) + (", ..." if len(silent) > 6 else "")
        return _failed(statement, f"the gain of layer {listed} is 0", _repair_of_gains(e))
    return statement


def _flows(e: Evidence) -> Statement:
    """U2: the network follows a flow, and flows are dense."""
    claim = "is dense in L^p, p < inf, as depth grows and T shrinks like 1/depth"
    source = f"flows of a convergent method: {_LI_LIN_SHEN}; Wu et al. 2024"
    statement = _needs_flow(Statement("U2", claim, source, True), e)
    if not e.consistent:
        return _failed(statement, "not consistent", _SUM_TO_ONE)
    if not e.stability.stable:
        return _failed(statement, f"not zero-stable: {e.stability.reason}", "a momentum constant or capped below 1")
    if e.constant is not None:
        return _failed(statement, e.order.reason, "") if e.order.speed is None else statement
    depth, longer = e.gradients.depth, HORIZON * e.gradients.depth
    near, far = (float(gains(e.algorithm, d).min()) for d in (depth, longer))
    if far >= near / ALLOWED_GROWTH and near >= TOLERANCE:
        return statement
    why = f"numerically: the smallest gain is {near:.3g} over {depth} layers"
    why += f" and {far:.3g} over {longer}: it is not bounded from below"
    return _failed(statement, why, _repair_of_gains(e) if near < TOLERANCE else "a step size that does not vanish")


def _second_order(e: Evidence) -> Statement | None:
    """U3: the network has a limit of second order in time; None where it has none."""
    claim = "as U2, by its limit of second order in time, with T shrinking like 1/depth^2"
    if not e.consistent:
        return None
    if e.constant is not None:
        if e.order.second_order is None or not is_root_bounded_but_at_one(e.constant.system.poles):
            return None
    else:
        c = friction(e.algorithm)
        if c is None:
            return None
        claim += f" (numerically: x'' + ({c:.3g}/t) x')"
    source = f"x'' + c x' = G_t + G_x G + c G follows x' = G: docs/theory.md; {_LI_LIN_SHEN}"
    return _needs_flow(Statement("U3", claim, source, True), e)


def _contains_resnet(e: Evidence) -> Statement | None:
    """U4: the network contains ResNet for some of its learnable coefficients; None where none is learnable."""
    learnable = e.algorithm.learnable()
    if not learnable:
        return None
    if any(e.algorithm.shape(name, 0) for name in learnable):
        return _contains_resnet_at_start(e)
    values = [sorted({v for v in (c.low, c.high, c.initial, 0, 1) if c.low <= v <= c.high}) for c in learnable.values()]
    for chosen in product(*values):
        setting = dict(zip(learnable, chosen, strict=True))
        match = equivalent(e.algorithm.rebind(**setting), "gradient_descent", depth=4)
        if match or (match.relation == "rescaled" and match.scale):
            shown = ", ".join(f"{name} = {value:g}" for name, value in setting.items())
            claim = f"contains ResNet ({shown}), so inherits its universality"
            return _needs_flow(Statement("U4", claim, _LI_LIN_SHEN, True), e)
    bounds = ", ".join(f"{name} in [{c.low:g}, {c.high:g}]" for name, c in learnable.items())
    why = f"of {bounds}, no bound, start, 0 or 1 gives gradient descent"
    return _failed(Statement("U4", "contains ResNet", _LI_LIN_SHEN, True), why, "let the momentum reach 0")


def _contains_resnet_at_start(e: Evidence) -> Statement:
    """U4 where a learnable coefficient is a table: whether its initial values give ResNet."""
    start = e.algorithm.rebind(**{name: c.initial for name, c in e.algorithm.learnable().items()})
    statement = Statement("U4", "contains ResNet, at the start, so inherits its universality", _LI_LIN_SHEN, True)
    if equivalent(start, "gradient_descent", depth=4):
        return _needs_flow(statement, e)
    return _failed(statement, "its initial tables do not give gradient descent", "")


def _explicit_part(e: Evidence) -> Statement | None:
    """U5: the network contains an explicit one as in U1; None unless it has explicit and implicit blocks."""
    implicit = [q.answer for q in e.gradients.queries if is_proximal(q.answer.oracle)]
    if not implicit or len(implicit) == len(e.gradients.queries):
        return None
    explicit = replace(
        e.gradients,
        queries=tuple(q for q in e.gradients.queries if q.answer not in implicit),
        output=Combination({a: c for a, c in e.gradients.output.terms.items() if a not in implicit}),
    )
    claim = "contains, with its implicit blocks at 0, an explicit net as in U1"
    statement = Statement("U5", claim, "docs/theory.md", True)
    if not e.consistent or _layers_without_gain(explicit):
        return _failed(statement, "its explicit part alone does not meet U1", "")
    return _needs_block(statement, e)


def _needs_flow(statement: Statement, e: Evidence) -> Statement:
    """The statement with what universality through flows asks of the width and of the blocks."""
    needed = None if e.d_in is None or e.d_out is None else max(e.d_in, e.d_out, 2)
    return _needs_block(_needs_width(statement, e, needed, "max(d_in, d_out, 2)"), e)


def _needs_width(statement: Statement, e: Evidence, needed: int | None, formula: str) -> Statement:
    """The statement, failed if the width is below the needed one, and provided that it is enough if one is unknown."""
    if needed is None or e.width is None:
        return _provided(statement, f"width >= {formula}")
    if e.width < needed:
        return _failed(statement, f"width {e.width} is below {formula} = {needed}", f"a width of {needed} or more")
    return statement


def _needs_block(statement: Statement, e: Evidence) -> Statement:
    """The statement with what it asks of a block: T is 0, or the identity, plus any two-layer map."""
    skip = "the identity plus " if e.binding == "operator" else ""
    if e.block is None:
        return _provided(statement, f"T can be {skip}any two-layer map of the whole state")
    if e.block.convolutional:
        why = "the block is convolutional: no full two-layer map of the whole state, which no theorem here covers"
        reading = "read the block as fully connected, where the statement holds"
        return _failed(statement, why, reading if e.block.two_layer == "yes" else "")
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
    """The statement as one that fails; of several conditions that fail, the first is reported."""
    return replace(statement, holds=False, fails=fails, repair=repair) if statement.holds else statement


def _layers_without_gain(gradients: Kernel) -> list[int]:
    """The layers none of whose blocks reaches the output; the answers of one block add up."""
    gains: dict[tuple[int, str], Number] = {}
    for query in gradients.queries:
        block = query.answer.layer, query.answer.oracle
        gains[block] = gains.get(block, Number.of(0)) + gradients.output.coefficient(query.answer)
    heard = {layer for (layer, _), gain in gains.items() if not gain.same(0)}
    return [k for k in range(gradients.depth) if k not in heard]


def _repair_of_gains(e: Evidence) -> str:
    """Words for what would make every gain nonzero."""
    last_two = (e.gradients.queries[-1].point + e.gradients.output) / 2
    if not _layers_without_gain(replace(e.gradients, output=last_two)):
        return "read out the mean of the last two states"
    return "coefficients, or a read-out, with which every gain is nonzero"
