"""U1: the network equals any shallow one with as many neurons as layers."""

from .statement import Evidence, Statement, failed, layers_without_gain, needs_block, needs_width, repair_of_gains


def shallow_nets(e: Evidence) -> Statement:
    """U1: the network equals any shallow net with as many neurons as layers."""
    statement = Statement(
        "U1",
        "equals any shallow net with as many neurons as layers, in the sup norm",
        "lift (u, 0) of Wu et al. 2024; exact, docs/theory.md",
        True,
    )
    needed = None if e.d_in is None or e.d_out is None else e.d_in + e.d_out
    statement = needs_width(statement, e, needed, "d_in + d_out")
    statement = needs_block(statement, e)
    if not e.consistent:
        return failed(statement, "not consistent", "make the coefficients of the states sum to one")
    silent = layers_without_gain(e.gradients)
    if silent:
        listed = ", ".join(map(str, silent[:6])) + (", ..." if len(silent) > 6 else "")
        return failed(statement, f"the gain of layer {listed} is 0", repair_of_gains(e))
    return statement
