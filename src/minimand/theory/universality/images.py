"""U6: convolutional blocks of constant width, by pulses; proved in docs/understand/universality.md."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .paths import after_activation, before_activation, leading, main_activation, missing_of_path
from .statement import Evidence, Statement, needs_width, not_covered, sum_of_sizes, with_proviso, without_its_skip
from .vectors import in_words, missing_of_steps

if TYPE_CHECKING:
    from ..block.operations import Operation


def image_statement(e: Evidence) -> Statement | None:
    """U6 for one network; None where its block is known and no convolution, or not known."""
    if e.block is None or not e.block.convolutional or e.block.attention:
        return None
    statement = Statement("U6", "", "docs/understand/universality.md; Lin, Shen & Li 2023 in L^p for ResNet", True)
    if (
        missing := _missing_of_algorithm(e)
        or missing_of_path(e.block, e.binding == "operator")
        or _missing_of_maps(e.block.path)
    ):
        return not_covered(statement, missing)
    padding = next(op.padding for op in before_activation(e.block.path) if op.padding)
    return _with_class(statement, e, e.block.path, padding)


def _with_class(statement: Statement, e: Evidence, path: "Sequence[Operation]", padding: str) -> Statement:
    """The statement with its class of maps, its norm and what it needs, by padding and activation."""
    activation = main_activation(path)
    if padding == "circular":
        among, exact, more = "shift-equivariant maps (circular padding)", activation.odd is not None, 2
    else:
        among, exact, more = "all maps of one image size (zero padding)", activation.rectifies, 3
    exact = exact and all(op.rectifies for op in leading(path))
    how = "equal to shallow nets in the sup norm" if exact else "dense in the sup norm"
    claim = f"{how}, as depth grows (pulses {in_words(e.pulses() or [])})"
    statement = replace(statement, claim=claim, among=among)
    statement = needs_width(statement, e, sum_of_sizes(e, more), f"c_in + c_out + {more}", "channels")
    if any(op.kind == "norm" for op in path):
        statement = with_proviso(statement, "batch normalization is that of evaluation, which is affine")
    if leading(path):
        statement = with_proviso(statement, "inputs are bounded, where its first activation can be made linear")
    return without_its_skip(with_proviso(statement, "the stem is injective"), e)


def _missing_of_algorithm(e: Evidence) -> str:
    """What the skeleton lacks for coupling steps; empty if nothing."""
    missing = missing_of_steps(e)
    return missing or ("" if e.pulses() is not None else "no pulses")


def _missing_of_maps(path: "Sequence[Operation]") -> str:
    before, after = before_activation(path), after_activation(path)
    convolutions = [op for op in (*before, *after) if op.kind == "convolution"]
    paddings = dict.fromkeys(op.padding for op in convolutions if op.padding)
    if all(op.taps == 1 for op in convolutions):
        return "kernels of one tap on an axis, along which no position sees another"
    if all(op.taps == 1 for op in before):
        return "no taps before the activation"
    if len(paddings) > 1:
        return f"paddings of several kinds ({', '.join(paddings)})"
    if not all(any(op.full for op in side if op.kind in ("dense", "convolution")) for side in (before, after)):
        return "groups that separate channels"
    if not any(op.bias for op in before):
        return "no bias before the activation"
    hidden = [op.channels for op in before if op.channels is not None]
    if hidden and hidden[-1] < 2:
        return f"{hidden[-1]} hidden channel; the theorem needs 2"
    return ""
