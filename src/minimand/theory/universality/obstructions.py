"""Functions that a network is proved not to reach; docs/understand/universality.md names each."""

from ..scalars import TOLERANCE
from .statement import Evidence, Statement

_LINEAR = ("dense", "convolution", "turned")


def obstructions(e: Evidence) -> list[Statement]:
    """The obstructions that hold for a network, each with a function that it cannot reach."""
    reasons = {
        "every gain is 0: the output is a multiple of the input": _answers_are_unheard(e),
        "no activation: affine maps only": _is_affine(e),
        f"width {e.width} is below d_out = {e.d_out}: the outputs lie in a subspace": (
            e.width is not None and e.d_out is not None and e.width < e.d_out
        ),
    }
    return [
        Statement("", "", "docs/understand/universality.md", False, fails=reason, obstructed=True)
        for reason, holds in reasons.items()
        if holds
    ]


def _answers_are_unheard(e: Evidence) -> bool:
    """Whether no answer reaches the output."""
    return not e.gradients.maps and all(abs(gain) < TOLERANCE for gain in e.gradients.gains.values())


def _is_affine(e: Evidence) -> bool:
    """Whether every block is known to be an affine map."""
    if not e.blocks or e.gradients.maps:
        return False
    return all(
        block.path and all(op.kind in _LINEAR or (op.kind == "norm" and not op.lacks) for op in block.operations)
        for block in e.blocks
    )
