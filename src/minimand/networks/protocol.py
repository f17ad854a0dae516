"""What a network offers that can be trained by any method."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Network(Protocol):
    """A stem, layers from state to state, and a head."""

    @property
    def stem(self) -> nn.Module:
        """Input to first state."""
        ...

    @property
    def layers(self) -> Sequence[nn.Module]:
        """State to state, in order; a layer may change the shape."""
        ...

    @property
    def head(self) -> nn.Module:
        """Last state to output."""
        ...

    def read(self, j: int, state: Any) -> Tensor:
        """What an auxiliary head or a probe of layer j looks at, from the state after it."""
        ...
