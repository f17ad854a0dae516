"""Which statements of universal approximation, U1 to U7 of docs/understand/universality.md, hold for a network."""

from .images import image_statement
from .obstructions import obstructions
from .pulses import pulses as pulses
from .rows import universality_rows as universality_rows
from .statement import Evidence as Evidence, Statement as Statement, Verdict as Verdict
from .tokens import token_statement
from .vectors import vector_statements


def statements(evidence: Evidence) -> tuple[Statement, ...]:
    """Every statement for one network: what is out of reach, U6 or U7 where the blocks are of the kind, U1 to U5."""
    decided = [*obstructions(evidence), image_statement(evidence), token_statement(evidence)]
    return tuple(s for s in [*decided, *vector_statements(evidence)] if s is not None)
