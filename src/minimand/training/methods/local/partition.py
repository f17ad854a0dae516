"""How the layers of a network are divided into blocks, each of which learns by a head of its own."""

import warnings
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ...._support.errors import MinimandError
from ...._support.torch.modes import evaluation_mode
from ....networks import Network, UnrolledLayer
from ....networks.arguments import as_arguments
from ....networks.as_network import learns, states
from ....networks.memory.replay import parts


class StateHead(nn.Module):
    """An auxiliary head that takes the whole state above a block, as later layers do, not what is read of it."""


class Block(nn.Module):
    """A block of a network's layers and the classifier above them; for the last block that is the network's head."""

    def __init__(self, network: Network, block: range, head: nn.Module | None) -> None:
        super().__init__()
        # In a tuple, so that the whole network is no submodule: neither trained, nor put into training mode.
        self._network = (network,)
        self.block, self.is_last = block, head is None
        self.stem = network.stem if block.start == 0 else None
        self.layers = nn.ModuleList(network.layers[j] for j in block)
        self.coefficients = nn.ModuleList(coefficients(self.layers))
        self.head = network.head if head is None else head

    @property
    def network(self) -> Network:
        """The network that the block is part of."""
        return self._network[0]

    def through(self, state: Any) -> Any:
        """The state above the block, from the batch or the state below it."""
        if self.stem is not None:
            state = self.stem(state)
        for layer in self.layers:
            state = layer(state)
        return state

    def seen(self, state: Any) -> Any:
        """What the classifier looks at of the state above the block."""
        return state if self.is_last else seen_by(self.head, self.network, self.block.stop - 1, state)


def seen_by(head: nn.Module, network: Network, j: int, state: Any) -> Any:
    """What an auxiliary head takes of the state above layer j."""
    return state if isinstance(head, StateHead) else network.read(j, state)


def coefficients(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """What stages hold for their layers; a layer learns its own entries only, as the others get no gradient."""
    stages = {id(layer.stage): layer.stage for layer in layers if isinstance(layer, UnrolledLayer)}
    return [stage.coefficients for stage in stages.values()]


def divided(model: nn.Module, network: Network, size: int, x: Tensor) -> tuple[list[range], list[tuple[int, ...]]]:
    """Blocks of `size` layers that learn, and the shape of a sample of what is read above each.

    A layer with nothing to learn joins the block before it. One that no gradient goes through, such as somebody's rule
    engine, begins the next block, as what is before it could not learn from above it. Layers of which a later one asks
    what an earlier one holds, as half steps of a splitting do, stay together.
    """
    blocks, shapes = [], []
    joined = _asking_again(network)
    _warn_of_memory(network)
    with evaluation_mode(model):
        with torch.no_grad():
            args, kwargs = as_arguments(x)
            model(*args, **kwargs)  # a model says itself what it cannot take
            state: Any = network.stem(x)
        start, learning = 0, 0
        above: Any = None
        for j, (layer, (after, passed)) in enumerate(zip(network.layers, states(network.layers, state), strict=True)):
            if learning and j not in joined and (not passed or (learns(layer) and learning >= size)):
                blocks.append(range(start, j))
                with torch.no_grad():
                    read = as_read(network, j - 1, above)
                shapes.append(tuple(read.shape[1:]))
                start, learning = j, 0
            learning += learns(layer)
            above = after
    return [*blocks, range(start, len(network.layers))], shapes


def _asking_again(network: Network) -> set[int]:
    """The layers before which a network cannot be divided: what is held before them is asked again behind."""
    holders: dict[nn.Module, int] = {}
    for k, layer in enumerate(network.layers):
        holders.update(dict.fromkeys(layer.modules(), k))
    questions = [
        (k, holders.get(m, k)) for k, layer in enumerate(network.layers) for m in {*parts(layer)} - {*layer.modules()}
    ]
    return {j for k, holder in questions for j in range(holder + 1, k + 1)}


def _warn_of_memory(network: Network) -> None:
    memories = {layer.stage.memory for layer in network.layers if isinstance(layer, UnrolledLayer)} - {"store"}
    for memory in sorted(memories):
        warnings.warn(
            f"memory={memory!r} of the model has no effect in training layer by layer, or with heads between layers: "
            "what they keep for the backward pass is kept.",
            stacklevel=2,
        )


def divided_into(
    model: nn.Module, network: Network, size: int, count: int | None, x: Tensor
) -> tuple[list[range], list[tuple[int, ...]]]:
    """Modules of `size` layers, or `count` of about as many layers each, and the shapes that `divided` gives.

    Raises MinimandError where there are too few layers.
    """
    blocks, shapes = divided(model, network, size, x)
    if len(blocks) < (count or 2):
        raise MinimandError(
            f"{type(model).__name__} has {len(network.layers)} layers, of which {len(blocks)} modules of {size} can be "
            f"made; expected layers for {count or '2 or more'} modules."
        )
    if count is None:
        return blocks, shapes
    ends = [len(blocks) * i // count for i in range(count + 1)]
    joined = [range(blocks[a].start, blocks[b - 1].stop) for a, b in pairwise(ends)]
    return joined, [shapes[end - 1] for end in ends[1:-1]]


def as_read(network: Network, j: int, state: Any) -> Tensor:
    """What is read after layer j; raises MinimandError where it cannot be read, or is no tensor."""
    call, expected = f"read({j}, state) of {type(network).__name__}", "expected a tensor that a classifier can look at"
    try:
        read: Any = network.read(j, state)
    except Exception as error:
        raise MinimandError(f"{call} raises {type(error).__name__}: {error}; {expected}.") from error
    if not isinstance(read, Tensor):
        raise MinimandError(f"{call} gives {type(read).__name__}; {expected}.")
    return read
