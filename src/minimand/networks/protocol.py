"""What a network offers that can be trained by any method."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Network(Protocol):
    """A network of a stem, layers from state to state, and a head: what can be trained by any method."""

    @property
    def stem(self) -> nn.Module:
        """The module from the input to the first state."""
        ...

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The modules from state to state, in order; a layer may change the shape."""
        ...

    @property
    def head(self) -> nn.Module:
        """The module from the last state to the output."""
        ...

    def read(self, j: int, state: Any) -> Tensor:
        """The tensor that an auxiliary head or a probe of layer j looks at, from the state after that layer."""
        ...
