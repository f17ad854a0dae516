"""Blocks of fully connected layers, for inputs that are vectors."""

from torch import nn

from .registry import block


@block("two_layer", (3, 6), width=6, hidden=5)
def two_layer(width: int, hidden: int | None = None) -> nn.Sequential:
    """Linear-ReLU-Linear: (N, width) to (N, width); the module that the universality theorems speak of."""
    hidden = hidden or width
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


@block("one_layer", (3, 6), width=6)
def one_layer(width: int) -> nn.Sequential:
    """Linear-ReLU: (N, width) to (N, width); act(W x) of Li et al. 2018."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU())
