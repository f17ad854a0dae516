"""U3: the network has a limit of second order in time."""

from dataclasses import replace

from ..dynamics.stability import friction, is_root_bounded_but_at_one
from .statement import LI_LIN_SHEN, Evidence, Statement, needs_flow


def second_order(e: Evidence) -> Statement | None:
    """U3: the network is dense in L^p by its limit of second order; None where it has no such limit."""
    statement = Statement(
        "U3",
        "as U2, by its limit of second order in time, with T shrinking like 1/depth^2",
        f"x'' + c x' = G_t + G_x G + c G follows x' = G: docs/theory.md; {LI_LIN_SHEN}",
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
    return needs_flow(statement, e)
