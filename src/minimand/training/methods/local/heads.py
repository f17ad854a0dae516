"""The auxiliary heads of a network's blocks, by name: classifiers of a shape, and copies of later layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from ...._support.errors import MinimandError, unknown_name
from ...._support.torch.internals import BatchNorm
from ....layers.heads import Auxiliary, PredictionSimilarity, auxiliary
from ....models.named import NamedModel
from ....networks import Network
from ....networks.kinds import count_parameters
from .copies import Later, LaterLayers, MomentumNeighbour, pyramid

LocalAuxiliary = Literal[Auxiliary, "auglocal", "momentum"]
"""The kinds of auxiliary heads of local learning: those of `mm.layers.heads`, and copies of later layers.

auglocal: copies of some later layers and of the network's head, with weights of their own; `hidden_layers` of them in
the first block's, linearly fewer in later ones. momentum: a moving average of the next layer and a copy of it that
learns, summed, and "cnn" above."""

AUXILIARIES: tuple[LocalAuxiliary, ...] = get_args(LocalAuxiliary)
"""The names of the kinds of auxiliary heads."""

_SOURCES = {
    "predsim": PredictionSimilarity.references,
    "auglocal": LaterLayers.references,
    "momentum": MomentumNeighbour.references,
}


def auxiliary_sources(method: str, kind: str) -> tuple[str, ...]:
    """Keys into references.bib for a kind of auxiliary heads; raises MinimandError for an unknown kind."""
    if kind not in AUXILIARIES:
        raise unknown_name(f"auxiliary of {method}", str(kind), AUXILIARIES)
    return _SOURCES.get(kind, ())


def check_processes(method: str, kind: str, world_size: int) -> None:
    """Raise MinimandError for a head that needs the next block's weights, which another process may change."""
    if world_size > 1 and kind == "momentum":
        raise MinimandError(
            f"{method}.auxiliary is 'momentum', which follows the next layer's weights step by step, and there are "
            f"{world_size} processes; expected one, or 'auglocal', which copies them once."
        )


@dataclass(frozen=True)
class Heads:
    """What makes the auxiliary head of any block of a network but the last."""

    kind: LocalAuxiliary
    model: nn.Module
    network: Network
    blocks: Sequence[range]
    shapes: Sequence[tuple[int, ...]]
    """The shape of a sample of what is read above each block."""
    example: Any
    num_outputs: int
    hidden_layers: int
    width: int | None

    def make(self, number: int) -> nn.Module:
        """The head of a block, on the device of the model."""
        device, end = next(self.model.parameters()).device, self.blocks[number].stop - 1
        if self.kind == "auglocal":
            chosen = self._chosen(number)
            return LaterLayers(self.network, chosen, self._later.writes[chosen[0]])
        if self.kind == "momentum":
            self._later.check(end, [end + 1])
            classifier = self._classifier("cnn", self._later.read_shape(end + 1)).to(device)
            return MomentumNeighbour(self.network, end + 1, classifier, self._later.writes[end + 1])
        return self._classifier(self.kind, self.shapes[number]).to(device)

    def parameters(self, number: int) -> int:
        """The number of parameters of the head of a block, which is not made for it."""
        if self.kind == "auglocal":
            layers = [self.network.layers[k] for k in self._chosen(number)]
            return sum(count_parameters(m) for m in (*layers, self.network.head))
        with torch.device("meta"):
            return count_parameters(self._classifier(cast(Auxiliary, self.kind), self.shapes[number]))

    @cached_property
    def _later(self) -> Later:
        return Later(self.model, self.network, self.example)

    def _chosen(self, number: int) -> list[int]:
        depth = pyramid(self.hidden_layers, number, len(self.blocks))
        return self._later.chosen(self.blocks[number].stop - 1, depth)

    def _classifier(self, kind: Auxiliary, shape: tuple[int, ...]) -> nn.Module:
        norm = any(isinstance(module, BatchNorm) for module in self.model.modules())
        if isinstance(self.model, NamedModel) and self.model.info.takes_tokens:
            if kind == "predsim":
                raise MinimandError(
                    f"auxiliary is 'predsim', which compares samples by their classes, and {self.model.info.name} "
                    "predicts the next token at each position; expected 'linear' or 'mlp'."
                )
            shape = shape[-1:]  # one classifier serves every position, so only the width counts
        return auxiliary(kind, shape, self.num_outputs, self.hidden_layers - 1, self.width, norm)
