"""The structure of a block T, as far as theorems on universality ask."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .operations import Operation

Truth = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class BlockStructure:
    """The structure of a block, as far as it could be read."""

    two_layer: Truth
    """Whether linear - activation - linear leads to the output."""
    identity: Truth
    """Whether the input is added to the output."""
    convolutional: bool
    """Whether one of the two linear maps is a convolution."""
    reason: str
    path: "tuple[Operation, ...]" = ()
    """The operations on the way from the input to the output on which most is done to the data, in order."""
    operations: "tuple[Operation, ...]" = ()
    """The operations on all ways from the input to the output, in order."""

    @property
    def attention(self) -> bool:
        """Whether tokens attend to one another."""
        return any(op.kind == "attention" for op in self.operations)
