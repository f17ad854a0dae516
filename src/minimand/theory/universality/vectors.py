"""U1 to U5, of blocks that are maps of the whole state; proved in universality.md and theory.md of docs/understand/."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

from ...algorithms import is_proximal
from ..disguise.equivalence import equivalent
from ..dynamics.second_order import friction
from ..dynamics.stability import is_root_bounded_but_at_one, lasting_gains
from ..kernel import INPUT, Kernel
from ..oracles import DivisionByZeroError
from ..scalars import Number, short_text
from ..symbols import Combination
from .paths import after_activation, leading, missing_of_path
from .statement import Evidence, Statement, needs_width, not_covered, sum_of_sizes, with_proviso, without_its_skip

if TYPE_CHECKING:
    from ..block.operations import Operation

_LI_LIN_SHEN = "Li, Lin & Shen, JEMS 2022"
_SUM_TO_ONE = "make the coefficients of the states sum to one"
_FLOWS = "L^p on compacts"
_VECTORS = ("dense", "activation", "norm")


def vector_statements(e: Evidence) -> list[Statement]:
    """U1 to U5 for one network; those that do not apply to its kind are left out."""
    if e.gradients.maps:
        why = "answers reach the output through a normalization, which mixes all channels: open"
        claims = (("U1", "equals any shallow net"), ("U2", "is dense in L^p"))
        return [Statement(name, claim, "", False, fails=why) for name, claim in claims]
    theorems = (_shallow_nets, _one_neuron_a_layer, _flows, _second_order, _contains_resnet, _explicit_part)
    decided = [theorem(e) for theorem in theorems]
    return [statement for statement in decided if statement is not None]


def _shallow_nets(e: Evidence) -> Statement:
    claim = "equals any shallow net with as many neurons as layers, in the sup norm"
    statement = Statement("U1", claim, "lift (u, 0) of Wu et al. 2024; exact, docs/understand/universality.md", True)
    statement = needs_block(needs_width(statement, e, sum_of_sizes(e, 0), "d_in + d_out"), e)
    if not e.consistent:
        return not_covered(statement, inconsistency(e), _SUM_TO_ONE)
    if not _layers_without_gain(e.gradients):
        return statement
    weights = e.pulses()
    if weights is None:
        return not_covered(statement, f"{_silence(e)}, and it has no pulses", _repair_of_gains(e))
    claim = f"equals any shallow net with a neuron for {len(weights)} layers, in the sup norm"
    return replace(statement, claim=f"{claim} (pulses {in_words(weights)})")


def _one_neuron_a_layer(e: Evidence) -> Statement | None:
    """What U1 does not cover where some gains are 0 and pulses make up for it; None elsewhere."""
    weights = e.pulses() if _layers_without_gain(e.gradients) and _shallow_nets(e).holds else None
    if weights is None:
        return None
    why = f"{_silence(e)}; holds with {len(weights)} layers a neuron (pulses {in_words(weights)})"
    return Statement("U1 with one neuron a layer", "", "docs/understand/universality.md", False, fails=why)


def _silence(e: Evidence) -> str:
    silent = _layers_without_gain(e.gradients)
    return f"the gain of layer {', '.join(map(str, silent[:6]))}{', ...' if len(silent) > 6 else ''} is 0"


def in_words(weights: Sequence[float]) -> str:
    """The weights of pulses as short text, simple fractions as such."""
    return ", ".join(short_text(Fraction(w).limit_denominator(1000)) for w in weights)


def inconsistency(e: Evidence) -> str:
    """Words for what keeps a network from resting at its input."""
    if all(share.value > 0 for share in e.gradients.shares(INPUT)):
        return "not consistent: consistent up to a scale, which a normalization that begins the blocks removes"
    return "not consistent"


def missing_of_steps(e: Evidence) -> str:
    """What keeps the steps of a skeleton from coupling one part of a state to another; empty if only pulses may."""
    if not e.consistent:
        return inconsistency(e)
    if any(map(is_proximal, e.algorithm.oracles)):
        return "an implicit step, of a prox, beside or in place of the blocks"
    return "no pulses: a part of the state is normalized, which is not linear" if e.gradients.maps else ""


def _flows(e: Evidence) -> Statement:
    """U2: the network follows a flow, and flows are dense."""
    claim = "is dense in L^p, p < inf, as depth grows and T shrinks like 1/depth"
    source = f"flows of a convergent method: {_LI_LIN_SHEN}; Wu et al. 2024"
    statement = _needs_flow(Statement("U2", claim, source, True, norm=_FLOWS), e)
    if not e.consistent:
        return not_covered(statement, inconsistency(e), _SUM_TO_ONE)
    if not e.stability.stable:
        return not_covered(statement, f"not zero-stable: {e.stability.reason}", "a momentum constant or capped below 1")
    if e.constant is not None:
        return not_covered(statement, e.order.reason, "") if e.order.speed is None else statement
    lasting, why = lasting_gains(e.gradients.steps, e.gradients.depth)
    if lasting:
        return statement
    silent = _layers_without_gain(e.gradients)
    return not_covered(statement, why, _repair_of_gains(e) if silent else "a step size that does not vanish")


def _second_order(e: Evidence) -> Statement | None:
    """U3: the network has a limit of second order in time; None where it has none."""
    claim = "as U2, by its limit of second order in time, with T shrinking like 1/depth^2"
    if not e.consistent:
        return None
    if e.constant is not None:
        if e.order.second_order is None or not is_root_bounded_but_at_one(e.constant.system.poles):
            return None
    else:
        c = friction(e.gradients.steps, e.gradients.depth)
        if c is None:
            return None
        claim += f" (numerically: x'' + ({c:.3g}/t) x')"
    source = f"x'' + c x' = G_t + G_x G + c G follows x' = G: docs/understand/theory.md; {_LI_LIN_SHEN}"
    return _needs_flow(Statement("U3", claim, source, True, norm=_FLOWS), e)


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
        try:
            match = equivalent(e.algorithm.rebind(**setting), "gradient_descent", depth=4)
        except DivisionByZeroError:
            continue
        if match or (match.relation == "rescaled" and match.scale):
            shown = ", ".join(f"{name} = {value:g}" for name, value in setting.items())
            claim = f"contains ResNet ({shown}), so inherits its universality"
            return _needs_flow(Statement("U4", claim, _LI_LIN_SHEN, True, norm=_FLOWS), e)
    bounds = ", ".join(f"{name} in [{c.low:g}, {c.high:g}]" for name, c in learnable.items())
    why = f"of {bounds}, no bound, start, 0 or 1 gives gradient descent"
    return not_covered(Statement("U4", "contains ResNet", _LI_LIN_SHEN, True), why, "let the momentum reach 0")


def _contains_resnet_at_start(e: Evidence) -> Statement:
    """U4 where a learnable coefficient is a table: whether its initial values give ResNet."""
    start = e.algorithm.rebind(**{name: c.initial for name, c in e.algorithm.learnable().items()})
    statement = Statement(
        "U4", "contains ResNet, at the start, so inherits its universality", _LI_LIN_SHEN, True, norm=_FLOWS
    )
    if equivalent(start, "gradient_descent", depth=4):
        return _needs_flow(statement, e)
    return not_covered(statement, "its initial tables do not give gradient descent", "")


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
    statement = Statement("U5", claim, "docs/understand/universality.md", True)
    if not e.consistent or _layers_without_gain(explicit):
        return not_covered(statement, "its explicit part alone does not meet U1", "")
    return needs_block(statement, e)


def _needs_flow(statement: Statement, e: Evidence) -> Statement:
    """The statement with what universality through flows asks of the width and of the blocks."""
    needed = None if e.d_in is None or e.d_out is None else max(e.d_in, e.d_out, 2)
    return needs_block(needs_width(statement, e, needed, "max(d_in, d_out, 2)"), e)


def needs_block(statement: Statement, e: Evidence) -> Statement:
    """The statement with what it asks of a block: T is 0, or the identity, plus any two-layer map."""
    skip = "the identity plus " if e.binding == "operator" else ""
    if e.block and e.block.convolutional:
        return not_covered(statement, "they need a map of the whole state; the block is convolutional")
    if e.splitting or e.attention:
        return not_covered(statement, "they need a map of the whole state; the block is attention, or a map of tokens")
    if e.block is not None and any(op.kind == "turned" for op in e.block.operations):
        return not_covered(
            statement, "they need a map of the whole state; the block turns its axes between maps of one"
        )
    if e.block is None:
        return with_proviso(statement, f"T can be {skip}any two-layer map of the whole state")
    if e.block.two_layer == "no":
        return not_covered(statement, f"the block has {e.block.reason}", "a block with one hidden layer")
    if skip and e.block.identity == "no":
        return not_covered(statement, "under the operator binding the block has to contain a skip", "add one")
    path = e.block.path
    if missing := missing_of_path(e.block, e.binding == "operator", _VECTORS) or _missing_of_maps(path):
        return not_covered(statement, missing)
    if any(op.kind == "norm" for op in path):
        statement = with_proviso(statement, "batch normalization is that of evaluation, which is affine")
    if leading(path):
        statement = with_proviso(statement, "inputs are bounded, where its first activation can be made linear")
    statement = with_proviso(statement, "the state is one vector (token-wise, the block is no map of the whole input)")
    return without_its_skip(statement, e)


def _missing_of_maps(path: "Sequence[Operation]") -> str:
    """What the linear maps of a block lack, or the activations before them; empty if nothing."""
    curved = next((op.name for op in leading(path) if not op.rectifies), None)
    if curved is not None:
        return f"{curved}, which is linear nowhere, before the first linear map"
    before = path[: -1 - len(after_activation(path))]
    return "" if any(op.bias for op in before) else "no bias before the activation"


def _layers_without_gain(gradients: Kernel) -> list[int]:
    """The layers none of whose blocks reaches the output; the answers of one block add up."""
    gains: dict[tuple[int, str], Number] = {}
    for query in gradients.queries:
        block = query.answer.layer, query.answer.oracle
        gains[block] = gains.get(block, Number.of(0)) + gradients.output.coefficient(query.answer)
    heard = {layer for (layer, _), gain in gains.items() if gain}
    return [k for k in range(gradients.depth) if k not in heard]


def _repair_of_gains(e: Evidence) -> str:
    """Words for what would make every gain nonzero."""
    last_two = (e.gradients.queries[-1].point + e.gradients.output) / 2
    if not _layers_without_gain(replace(e.gradients, output=last_two)):
        return "read out the mean of the last two states"
    return "coefficients, or a read-out, with which every gain is nonzero"
