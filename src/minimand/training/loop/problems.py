"""What a method makes of a training: problems, solved one after another."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..distributed.world import World
from ..methods.local.activations import Cache


@dataclass(frozen=True)
class Problem:
    """A module that is trained with an optimizer and a schedule of its own."""

    module: nn.Module
    """The module from a batch to the outputs that the loss judges."""
    trained: nn.Module
    """The module that holds the parameters that move."""
    epochs: int


@dataclass(frozen=True)
class Plan:
    """The problems of a training, solved one after another."""

    problems: Sequence[Problem]
    saved: nn.Module
    """The module that holds all parameters and buffers that any problem changes: the model of a checkpoint."""
    cache: Cache | None = None
    """The cache of what the problems before the present one settled; None for no cache."""
    ensemble: nn.Module | None = None
    """A module whose outputs combine all that was trained, where the method trains several classifiers."""
    world: World | None = None
    """The processes, where the method gives each of them modules of its own; None where they share batches."""
