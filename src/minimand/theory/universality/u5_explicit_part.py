"""U5: the explicit part of a network with proximal blocks is a network as in U1."""

from dataclasses import replace

from ...algorithms import is_proximal
from ..symbols import Combination
from .statement import Evidence, Statement, failed, layers_without_gain, needs_block


def explicit_part(e: Evidence) -> Statement | None:
    """U5: the network contains an explicit one as in U1; None unless it has explicit and implicit blocks."""
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
    if not e.consistent or layers_without_gain(explicit):
        return failed(statement, "its explicit part alone does not meet U1", "")
    return needs_block(statement, e)
