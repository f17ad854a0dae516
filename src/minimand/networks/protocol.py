"""The protocol of a network that can be trained by any method: stem, layers and head."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn


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


def is_network(model: Any) -> TypeGuard[Network]:
    """Whether a model has stem, layers, head and read; modules inside it count, which isinstance would not see."""
    return all(hasattr(model, part) for part in ("stem", "layers", "head", "read"))


class SplitNetwork(nn.Module):
    """A model as a network of stem, layers and head, which are parts of it; it computes what the model computes."""

    stem: nn.Module
    layers: Sequence[nn.Module]
    head: nn.Module

    def __init__(
        self,
        module: nn.Module,
        stem: nn.Module,
        layers: Sequence[nn.Module],
        head: nn.Module,
        channels_last: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.module = module
        self.channels_last = tuple(channels_last)
        """Whether a layer gives maps (N, H, W, C), for each layer."""
        # No submodules, so that each parameter has the one name that it has in the model.
        self.__dict__.update(stem=stem, layers=tuple(layers), head=head)

    def read(self, j: int, state: Any) -> Tensor:
        tensor = state[0] if isinstance(state, tuple) else state
        return tensor.movedim(-1, 1) if self.channels_last[j : j + 1] == (True,) else tensor

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)
