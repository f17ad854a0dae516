"""Fully connected blocks."""

from torch import nn


def two_layer(width: int, hidden: int) -> nn.Sequential:
    """Linear-ReLU-Linear: (N, width) to (N, width); the module that the universality theorems speak of."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def one_layer(width: int) -> nn.Sequential:
    """Linear-ReLU: (N, width) to (N, width); act(W x) of Li et al. 2018."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU())
