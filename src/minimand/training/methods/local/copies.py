"""Auxiliary heads that are copies of later layers: AugLocal (Ma et al. 2024) and MAN (Su et al. 2024)."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...._support.errors import MinimandError
from ...._support.torch.internals import tree_flatten, tree_leaves, tree_map_only, version
from ...._support.torch.modes import evaluation_mode
from ....networks import Network, UnrolledLayer
from ....networks.as_network import learns, states
from ....networks.unrolled import Unrolled
from .partition import StateHead, as_read, coefficients


class LaterLayers(StateHead):
    """The head "auglocal": copies of some of the later layers and of the network's head, with weights of their own.

    The copies begin at the weights that those layers have, and then learn with the block alone.
    """

    references: ClassVar = ("ma2024auglocal",)

    def __init__(self, network: Network, numbers: Sequence[int], writes: bool) -> None:
        super().__init__()
        *layers, self.head = copied([*(network.layers[k] for k in numbers), network.head])
        self.layers = nn.ModuleList(layers)
        self.coefficients = nn.ModuleList(coefficients(layers))
        self.writes = writes
        """Whether the first copy writes into its input, which the block above still needs."""

    def forward(self, state: Any) -> Tensor:
        """The state above a block to outputs (N, outputs)."""
        state = tree_map_only(Tensor, torch.clone, state) if self.writes else state
        for layer in self.layers:
            state = layer(state)
        return self.head(state)


class MomentumNeighbour(StateHead):
    """The head "momentum": a moving average of the next layer, a copy of it that learns, and a classifier of their sum.

    The average follows the next layer's weights step by step and takes no gradient. The copy that learns is what the
    published code has for the paper's learnable bias. Statistics of normalizations are each copy's own.
    """

    references: ClassVar = ("su2024man",)

    def __init__(
        self, network: Network, number: int, classifier: nn.Module, writes: bool, momentum: float = 0.999
    ) -> None:
        super().__init__()
        layer = network.layers[number]
        (self.learned,), (self.averaged,) = copied([layer]), copied([layer])
        self.averaged.requires_grad_(False)
        self.coefficients = nn.ModuleList(coefficients([self.learned]))
        self.averaged_coefficients = nn.ModuleList(coefficients([self.averaged])).requires_grad_(False)
        self.classifier, self.writes, self.momentum = classifier, writes, momentum
        # In a tuple, so that the neighbour is no submodule: it learns below its own classifier.
        self._neighbour = (network, number)

    def forward(self, state: Any) -> Tensor:
        """The state above a block to outputs (N, outputs)."""
        network, number = self._neighbour
        readouts = []
        for layer in (self.learned, self.averaged):
            below = tree_map_only(Tensor, torch.clone, state) if self.writes else state
            readouts.append(network.read(number, layer(below)))
        return self.classifier(readouts[0] + readouts[1])

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards the next layer's weights: momentum * average + (1 - momentum) * weight."""
        network, number = self._neighbour
        layer = network.layers[number]
        pairs = [
            *zip(self.averaged.parameters(), layer.parameters(), strict=True),
            *zip(self.averaged_coefficients.parameters(), _parameters(coefficients([layer])), strict=True),
        ]
        for average, weight in pairs:
            average.lerp_(weight, 1 - self.momentum)


def _parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters()]


def copied(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Copies of layers that share nothing with them; steps of one stage share a copy of its coefficients."""
    memo: dict[int, Any] = {}
    for stage in {id(stage): stage for layer in layers for stage in _stages(layer)}.values():
        memo[id(stage)] = stage.without_layers()
    return copy.deepcopy(list(layers), memo)


def _stages(layer: nn.Module) -> list[Unrolled]:
    """The stages that a layer refers to without holding them: its own, or those that it stands between."""
    if isinstance(layer, UnrolledLayer):
        return [layer.stage]
    return [stage for stage in getattr(layer, "stages", ()) if isinstance(stage, Unrolled)]


class Later:
    """What is known of a network's layers before some of them are copied: the states between them."""

    def __init__(self, model: nn.Module, network: Network, x: Any) -> None:
        self.network = network
        with evaluation_mode(model):
            with torch.no_grad():
                state = network.stem(x)
            self.states, self.passed, self.writes = [state], list[bool](), list[bool]()
            for layer, (after, passed) in zip(network.layers, states(network.layers, state), strict=True):
                self.writes.append(_writes(layer, state))
                self.passed.append(passed)
                self.states.append(after)
                state = after
        self.kinds = [_kind(state) for state in self.states]

    def chosen(self, end: int, depth: int) -> list[int]:
        """The numbers of the layers that are copied above layer `end`, from `end` + 1 to the last.

        They are `depth` of those that learn, evenly spaced to the last one, as in the published code; and the layers
        between that change the shape of the state, since what follows would not fit without them.
        """
        network = self.network
        later = [k for k in range(end + 1, len(network.layers)) if learns(network.layers[k])]
        count = len(later)
        if depth < count:
            wanted = {later[round(end + count / depth * i) - end - 1] for i in range(1, depth + 1)}
        else:
            wanted = set(later)
        numbers = [
            k
            for k in range(end + 1, len(network.layers))
            if k in wanted or self.kinds[k] != self.kinds[k + 1] or not self.passed[k]
        ]
        self.check(end, numbers)
        return numbers

    def read_shape(self, number: int) -> tuple[int, ...]:
        """The shape of a sample of what is read above a layer."""
        return tuple(as_read(self.network, number, self.states[number + 1]).shape[1:])

    def check(self, end: int, numbers: Sequence[int]) -> None:
        """Raise MinimandError where no gradient goes through a layer that is to be copied."""
        for k in numbers:
            if not self.passed[k]:
                raise MinimandError(
                    f"no gradient goes through layer {k}, so the block below it, to layer {end}, could not learn from "
                    "a copy; expected another auxiliary, such as 'cnn'."
                )


def _kind(state: Any) -> tuple[Any, ...]:
    """How a state is made of tensors, and their shapes but for the samples."""
    leaves, spec = tree_flatten(state)
    return spec, *(tuple(t.shape[1:]) if isinstance(t, Tensor) else t for t in leaves)


@torch.no_grad()
def _writes(layer: nn.Module, state: Any) -> bool:
    """Whether a layer writes into the state that it is given."""
    state = tree_map_only(Tensor, torch.clone, state)
    before = [version(t) for t in tree_leaves(state) if isinstance(t, Tensor)]
    layer(state)
    return before != [version(t) for t in tree_leaves(state) if isinstance(t, Tensor)]


def pyramid(depth: int, number: int, blocks: int) -> int:
    """The number of layers that the head of block `number` copies: at first `depth`, half way to 1 at the last.

    It falls linearly; the half is the published commands' `--pyramid_coeff 0.5`.
    """
    share = 0.5 * number / (blocks - 2) if blocks > 2 else 0.0
    return max(1, round(depth + share * (1 - depth)))
