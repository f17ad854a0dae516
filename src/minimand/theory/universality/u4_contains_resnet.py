"""U4: the network contains ResNet."""

from itertools import product

from ..equivalence import equivalent
from .statement import LI_LIN_SHEN, Evidence, Statement, failed, needs_flow


def contains_resnet(e: Evidence) -> Statement | None:
    """U4: the network contains ResNet for some of its learnable coefficients; None where none is learnable."""
    learnable = e.algorithm.learnable()
    if not learnable:
        return None
    values = [sorted({v for v in (c.low, c.high, c.initial, 0, 1) if c.low <= v <= c.high}) for c in learnable.values()]
    for chosen in product(*values):
        setting = dict(zip(learnable, chosen, strict=True))
        match = equivalent(e.algorithm.rebind(**setting), "gradient_descent", depth=4)
        if match or (match.relation == "rescaled" and match.scale):
            shown = ", ".join(f"{name} = {value:g}" for name, value in setting.items())
            statement = Statement("U4", f"contains ResNet ({shown}), so inherits its universality", LI_LIN_SHEN, True)
            return needs_flow(statement, e)
    bounds = ", ".join(f"{name} in [{c.low:g}, {c.high:g}]" for name, c in learnable.items())
    statement = Statement("U4", "contains ResNet", LI_LIN_SHEN, True)
    return failed(statement, f"of {bounds}, no bound, start, 0 or 1 gives gradient descent", "let the momentum reach 0")
