"""The two linear maps and the activation of a block, and what the way through it lacks of them."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..block import BlockStructure
    from ..block.operations import Operation

ONE_ACTIVATION = ("dense", "convolution", "activation", "norm")
"""The kinds of operations of a block of linear maps and an activation."""


def missing_of_path(block: "BlockStructure", is_operator: bool, allowed: Collection[str] = ONE_ACTIVATION) -> str:
    """What a block lacks of z + linear map, activation, linear map; empty if nothing."""
    path = block.path
    if block.two_layer == "unknown":
        return block.reason
    if path and path[-1].kind == "activation":
        return "an activation is last in the block, which is no z + h(z)"
    if is_operator and block.identity != "yes":
        return "under the operator binding the block has to contain a skip"
    if block.two_layer == "no":
        return f"the block has {block.reason}"
    for op in path:
        if op.kind not in allowed:
            return f"{op.name} inside the block"
        if op.lacks:
            place = "between the convolutions" if block.convolutional else "inside the block, which is not affine"
            return f"{op.lacks} {place}" if op.kind == "norm" else op.lacks
    return missing_of_activation(path)


def missing_of_activation(path: "Sequence[Operation]") -> str:
    """What the activation of a block lacks of one that shallow nets are dense with; empty if nothing."""
    activations = [op for op in from_first_linear(path) if op.kind == "activation"]
    if len(activations) > 1:
        return f"{len(activations)} activations between linear maps; the theorem speaks of one"
    for op in activations:
        if op.degree is not None:
            return f"an activation that is a polynomial, of degree {op.degree}, as are all shallow nets of it then"
    return ""


def leading(path: "Sequence[Operation]") -> "list[Operation]":
    """The activations before the first linear map."""
    return [op for op in path[: len(path) - len(from_first_linear(path))] if op.kind == "activation"]


def from_first_linear(path: "Sequence[Operation]") -> "Sequence[Operation]":
    """The path from its first linear map on; empty if it has none."""
    first = next((i for i, op in enumerate(path) if op.kind in ("dense", "convolution")), len(path))
    return path[first:]


def main_activation(path: "Sequence[Operation]") -> "Operation":
    """The activation between the linear maps; one before them can be made linear on bounded inputs."""
    return next(op for op in from_first_linear(path) if op.kind == "activation")


def before_activation(path: "Sequence[Operation]") -> "Sequence[Operation]":
    """The operations from the first linear map to the activation."""
    maps = from_first_linear(path)
    return maps[: maps.index(main_activation(path))]


def after_activation(path: "Sequence[Operation]") -> "Sequence[Operation]":
    """The operations of a path that follow its main activation."""
    maps = from_first_linear(path)
    return maps[maps.index(main_activation(path)) + 1 :]
