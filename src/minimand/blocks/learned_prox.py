"""Learned answers to a prox oracle that need no solver, and blocks whose implicit steps are proxes."""

import torch
from torch import Tensor, nn

from .._support.checks import check_number
from ..layers.convex_gradient import ConvexGradient
from ..layers.normalized_weight import operator_norm
from ..layers.scale import Scale as Factor
from .proximal import Prox
from .registry import block


class LearnedProx(Prox):
    """P(v) = W^T s(W v + b) with |W| <= 1: the gradient of a convex function, and nonexpansive, so a prox (Moreau).

    It is the prox of a learned convex function at one step size, and answers the same whatever the step size: a network
    of such blocks is explicit. Where the weight's norm exceeds 1 it is divided by it. P is not the identity where the
    weights are 0, so the network is no method for a differential equation.

    Args:
        inner: W and b, a linear layer, or a convolution of stride 1, padded with zeros, that keeps the size.
        activation: a monotone s with slopes of at most 1.
    """

    references = ("moreau1965",)

    def __init__(self, inner: nn.Linear | nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.potential = ConvexGradient(inner, activation)

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        """P(v), of the shape of `point`."""
        return self.potential.gradient(point, 1 / self.potential.norm_bound().clamp_min(1))


@block("convex_gradient", (3, 6), width=6, hidden=5)
def convex_gradient(width: int, hidden: int | None = None) -> ConvexGradient:
    """-W^T ReLU(W x + b): (N, width) to (N, width); minus the gradient of a convex function."""
    return ConvexGradient(nn.Linear(width, hidden or width))


@block("convex_convolution", (3, 4, 5, 5), channels=4)
def convex_convolution(channels: int) -> ConvexGradient:
    """-W^T ReLU(W x + b), W a 3 x 3 convolution: (N, channels, H, W) as it is; minus the gradient of a convex function.

    W starts with the norm 1, all taps taken as one matrix, and b at 0.
    """
    inner = nn.Conv2d(channels, channels, 3, padding=1)
    with torch.no_grad():
        inner.weight /= torch.linalg.matrix_norm(inner.weight.flatten(1), 2)
        if inner.bias is not None:
            inner.bias.zero_()
    return ConvexGradient(inner)


def contraction(channels: int, factor: float = 0.9) -> nn.Sequential:
    """Conv-ReLU-Conv of norms 1, times a factor: (N, channels, H, W) as it is; its Lipschitz constant is the factor."""
    check_number("factor", factor, 0, 1, below=True)
    first, last = (operator_norm(nn.Conv2d(channels, channels, 3, padding=1)) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), last, Factor(factor))
