"""A network of stem, layers and head from a plain chain of modules."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError
from .differentiability import learns, states
from .protocol import Network

_POOLS = (
    nn.Flatten,
    nn.Identity,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
    nn.AvgPool2d,
    nn.MaxPool2d,
)


class SequentialNetwork(nn.Module):
    """An nn.Sequential as a network of stem, layers and head, whose state is a tensor."""

    def __init__(self, module: nn.Sequential, layers: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.module = module
        # In tuples, so that each parameter has the one name that it has in the chain.
        self._layers, self._head = tuple(layers), (head,)
        self._stem = (nn.Identity(),)

    @property
    def stem(self) -> nn.Module:
        """The module from the input to the first state: none, an nn.Identity."""
        return self._stem[0]

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The parts of the chain before the head, from state to state."""
        return self._layers

    @property
    def head(self) -> nn.Module:
        """The last part of the chain, from the last state to the output."""
        return self._head[0]

    def read(self, j: int, state: Any) -> Tensor:
        """The state itself, as it is a tensor."""
        return state

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


def as_network(module: nn.Module, x: Tensor | None = None) -> Network:
    """A module as a network that can be trained layer by layer.

    A network is returned as it is. Of an nn.Sequential every child with parameters begins a layer, which the children
    without parameters after it join, those before the first the first; the head is the last child with parameters with
    the pooling and flattening just before it, and all after it.

    Args:
        module: a network or an nn.Sequential.
        x: a few inputs, to find children without a derivative, which begin a layer too; None if there are none.

    Raises:
        MinimandError: a module that is neither; a chain of fewer than two children with parameters.
    """
    if isinstance(module, Network):
        return module
    if not isinstance(module, nn.Sequential):
        raise WrongTypeError(
            f"model is {type(module).__name__}; expected a network with stem, layers, head and read(j, state), as "
            "those of mm.create_model, or an nn.Sequential of its layers and its head."
        )
    children = list(module)
    owners = [i for i, child in enumerate(children) if any(True for _ in child.parameters())]
    if len(owners) < 2:
        raise MinimandError(
            f"the chain has {len(owners)} children with parameters; expected two or more: layers, and last the head."
        )
    end = owners[-1]
    while isinstance(children[end - 1], _POOLS):
        end -= 1
    without_derivative = [] if x is None else _without_derivative(module, children[:end], x)
    starts = sorted({0, *owners[1:-1], *without_derivative, end})
    layers = [nn.Sequential(*children[a:b]) for a, b in pairwise(starts)]
    return SequentialNetwork(module, layers, nn.Sequential(*children[end:]))


def _without_derivative(module: nn.Module, children: Sequence[nn.Module], x: Tensor) -> list[int]:
    """The positions of children without parameters that no gradient goes through."""
    training = module.training
    module.eval()
    try:
        reached = [passed for _, passed in states(children, x)]
    finally:
        module.train(training)
    return [i for i, child in enumerate(children) if not (reached[i] or learns(child))]
