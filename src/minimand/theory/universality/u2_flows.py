"""U2: the network follows a flow, and flows are dense."""

from ..dynamics.response import gains
from ..dynamics.stability import ALLOWED_GROWTH, HORIZON
from ..scalars import TOLERANCE
from .statement import LI_LIN_SHEN, Evidence, Statement, failed, needs_flow, repair_of_gains


def flows(e: Evidence) -> Statement:
    """U2: the network is dense in L^p as depth grows."""
    statement = Statement(
        "U2",
        "is dense in L^p, p < inf, as depth grows and T shrinks like 1/depth",
        f"flows of a convergent method: {LI_LIN_SHEN}; Wu et al. 2024",
        True,
    )
    statement = needs_flow(statement, e)
    if not e.consistent:
        return failed(statement, "not consistent", "make the coefficients of the states sum to one")
    if not e.stability.stable:
        return failed(statement, f"not zero-stable: {e.stability.reason}", "a momentum constant or capped below 1")
    if e.constant is not None and e.order.speed is None:
        return failed(statement, e.order.reason, "")
    if e.constant is None:
        near, far = (float(gains(e.algorithm, d).min()) for d in (e.gradients.depth, HORIZON * e.gradients.depth))
        if far < near / ALLOWED_GROWTH or near < TOLERANCE:
            why = f"numerically: the smallest gain is {near:.3g} over {e.gradients.depth} layers"
            why += f" and {far:.3g} over {HORIZON * e.gradients.depth}: it is not bounded from below"
            return failed(
                statement, why, repair_of_gains(e) if near < TOLERANCE else "a step size that does not vanish"
            )
    return statement
