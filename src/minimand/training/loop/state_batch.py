"""States of a network as a batch, in the place of inputs."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._support.torch.internals import tree_unflatten


@dataclass(frozen=True)
class StateBatch:
    """A batch of states of a network, in the place of inputs: tensors, and how a state is made of them."""

    leaves: list[Tensor]
    spec: Any

    def __len__(self) -> int:
        return len(self.leaves[0])

    def __getitem__(self, rows: Any) -> "StateBatch":
        return StateBatch([leaf[rows] for leaf in self.leaves], self.spec)

    @property
    def device(self) -> torch.device:
        """The device on which the tensors of the states are."""
        return self.leaves[0].device

    @property
    def state(self) -> Any:
        """The state as the layers of the network know it."""
        return tree_unflatten(self.leaves, self.spec)
