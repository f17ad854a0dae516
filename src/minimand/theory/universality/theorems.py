"""All theorems on universality, in the order of their numbers."""

from .statement import Evidence, Statement
from .u1_shallow_nets import shallow_nets
from .u2_flows import flows
from .u3_second_order import second_order
from .u4_contains_resnet import contains_resnet
from .u5_explicit_part import explicit_part

_THEOREMS = (shallow_nets, flows, second_order, contains_resnet, explicit_part)


def statements(evidence: Evidence) -> tuple[Statement, ...]:
    """U1 to U5 for one network; those that do not apply to its kind are left out."""
    decided = [theorem(evidence) for theorem in _THEOREMS]
    return tuple(statement for statement in decided if statement is not None)
