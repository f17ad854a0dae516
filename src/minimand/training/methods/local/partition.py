"""How the layers of a network are divided into blocks that learn one after another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...._support.errors import MinimandError
from ....networks.as_network import Network, learns, states


def divided(model: nn.Module, network: Network, size: int, x: Tensor) -> tuple[list[range], list[tuple[int, ...]]]:
    """Blocks of `size` layers that learn, and the shape of a sample of what is read above each.

    A layer with nothing to learn joins the block before it. One that no gradient goes through, such as somebody's rule
    engine, begins the next block, as what is before it could not learn from above it.

    Raises:
        ValueError: a layer whose state cannot be read, or one that should learn and cannot.
    """
    training, blocks, shapes = model.training, [], []
    model.eval()
    try:
        with torch.no_grad():
            model(x)  # a model says itself what it cannot take
            state: Any = network.stem(x)
        start, learning = 0, 0
        above: Any = None
        for j, (layer, (after, passed)) in enumerate(zip(network.layers, states(network.layers, state), strict=True)):
            if learning and (not passed or (learns(layer) and learning == size)):
                blocks.append(range(start, j))
                with torch.no_grad():
                    read = as_read(network, j - 1, above)
                shapes.append(tuple(read.shape[1:]))
                start, learning = j, 0
            learning += learns(layer)
            above = after
    finally:
        model.train(training)
    return [*blocks, range(start, len(network.layers))], shapes


def as_read(network: Network, j: int, state: Any) -> Tensor:
    """What is read after layer j.

    Raises:
        ValueError: it cannot be read, or is no tensor.
    """
    name, expected = type(network).__name__, "expected a tensor that a classifier can look at"
    try:
        read: Any = network.read(j, state)
    except Exception as error:
        raise MinimandError(
            f"read({j}, state) of {name} raises {type(error).__name__}: {error}; {expected}."
        ) from error
    if not isinstance(read, Tensor):
        raise MinimandError(f"read({j}, state) of {name} gives {type(read).__name__}; {expected}.")
    return read


def as_start(name: str, start: int, blocks: Sequence[range]) -> int:
    """The number of a block, counted from the end if negative.

    Raises:
        ValueError: there is none.
    """
    count = len(blocks)
    if not -count <= start < count:
        raise MinimandError(f"{name} is {start}, and there are {count} blocks; expected {-count} to {count - 1}.")
    return start % count
