"""U7: attention and token-wise maps, by pulses; proved in docs/understand/universality.md."""

from dataclasses import replace
from typing import TYPE_CHECKING

from .paths import missing_of_activation
from .pulses import turns
from .statement import Evidence, Statement, needs_width, not_covered, sum_of_sizes, with_proviso, without_its_skip
from .vectors import in_words, missing_of_steps

if TYPE_CHECKING:
    from ..block import BlockStructure
    from ..block.operations import Mask

_AMONG: "dict[Mask, str]" = {
    "none": "permutation-equivariant maps (with positions in the input: all maps of so many tokens)",
    "causal": "causal maps",
}
_NORMS = {"LayerNorm": 2, "RMSNorm": 1}
"""The channels that it takes to read through a normalization."""


def token_statement(e: Evidence) -> Statement | None:
    """U7 for one network; None where its blocks are known to hold no attention, and where nothing is known."""
    if e.splitting is None and not e.attention:
        return None
    statement = Statement("U7", "", "docs/understand/universality.md; Yun et al. 2020 in L^p for ResNet", True)
    if missing := _missing_of_algorithm(e) or _missing_of_blocks(e):
        return not_covered(statement, missing)
    operations = [op for block in e.blocks for op in block.operations]
    is_causal = any(op.mask == "causal" for op in operations)
    mask: Mask = "causal" if is_causal else "none"
    more = max((_NORMS[op.name] for op in operations if op.kind == "norm" and op.lacks), default=0)
    how = "dense in the sup norm" if more else "equal to shallow nets of attention in the sup norm"
    pulses = " and ".join(
        dict.fromkeys(in_words(e.pulses(turn) or []) for turn in turns(e.algorithm, e.splitting).values())
    )
    claim = f"{how}, as depth grows (pulses {pulses})"
    if more:
        claim += f"; up to 1/K^2 because of the norm, with {more} more channel{'s' * (more > 1)} held at K"
    statement = replace(statement, claim=claim, among=_AMONG[mask])
    statement = needs_width(statement, e, sum_of_sizes(e, 2 + more), f"d_in + d_out + {2 + more}")
    if mask == "causal":
        statement = with_proviso(statement, "the tokens tell their positions, or the first one that it is first")
    if not (_holds_map(e) and e.attention):
        statement = with_proviso(statement, "the blocks of a layer are attention and a two-layer map of each token")
    return without_its_skip(statement, e)


def _missing_of_algorithm(e: Evidence) -> str:
    """What the skeleton lacks for coupling steps; empty if nothing."""
    if missing := missing_of_steps(e):
        return missing
    without = [part for part, turn in turns(e.algorithm, e.splitting).items() if e.pulses(turn) is None]
    if not without:
        return ""
    cut = f" of the {' and the '.join(without)} under {e.splitting}" if e.splitting else ""
    return f"no pulses{cut}"


def _missing_of_blocks(e: Evidence) -> str:
    """What the blocks of a layer lack of attention and a token-wise map; empty if nothing."""
    operations = [op for block in e.blocks for op in block.operations]
    if any(op.kind == "positions" for op in operations):
        return "rotary positions, which uniform attention does not see"
    if any(op.mask == "other" for op in operations):
        return "a mask that is neither none nor causal"
    for block in e.blocks:
        if missing := _missing_of_block(block, e.binding == "operator"):
            return missing
    is_whole = e.splitting in (None, "whole", "euler")
    if e.blocks and not _holds_map(e) and (is_whole or len(e.blocks) > 1):
        return "no two-layer map of each token"
    if e.blocks and not e.attention and (is_whole or len(e.blocks) > 1):
        return "no attention: the blocks do not mix tokens"
    return ""


def _missing_of_block(block: "BlockStructure", is_operator: bool) -> str:
    if block.two_layer == "unknown":
        return block.reason
    if block.convolutional:
        return "a convolution beside the attention"
    if is_operator and block.identity != "yes":
        return "under the operator binding the block has to contain a skip"
    if not block.path:
        return f"the block has {block.reason}"
    last = block.path[-1]
    if last.kind == "activation":
        return "an activation is last in the block, which is no z + h(z)"
    if last.kind == "norm":
        return f"{last.name} after the branch"
    for op in block.operations:
        if op.kind not in ("dense", "activation", "norm", "attention", "turned"):
            return f"{op.name} inside the block"
        if op.kind == "norm" and op.lacks and op.name not in _NORMS:
            return f"{op.name} inside the block"
    return _missing_of_map(block)


def _missing_of_map(block: "BlockStructure") -> str:
    activation = next((i for i, op in enumerate(block.path) if op.kind == "activation"), None)
    if activation is None:
        return ""
    if missing := missing_of_activation(block.path):
        return missing
    before = block.path[:activation]
    expand = max((i for i, op in enumerate(before) if op.kind == "dense"), default=0)
    hidden = before[expand].channels if before else None
    # A bias of the linear map, of a norm after it, or of the one that it reads.
    norms = [op for op in before[max(expand - 1, 0) :] if op.kind == "norm"]
    if not any(op.bias for op in (*before[expand : expand + 1], *norms)):
        return "no bias before the activation"
    if hidden is not None and hidden < 2:
        return f"{hidden} hidden unit; the theorem needs 2"
    return ""


def _holds_map(e: Evidence) -> bool:
    return any(block.two_layer == "yes" for block in e.blocks)
