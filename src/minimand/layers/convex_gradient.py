"""Gradients of learned convex functions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError

MONOTONE = (nn.Identity, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.ReLU6)
"""Activations whose slopes lie in [0, 1]."""


class ConvexGradient(nn.Module):
    """T(x) = -W^T s(W x + b): minus the gradient of the convex function sum S(W x + b), S' = s.

    Its implicit step, the u with u = v + h T(u), is the prox of that function: it has one solution, for all weights and
    every h > 0, and does not expand distances. (facts of proxes: Moreau, 1965)

    Args:
        inner: W and b, a linear layer, or a convolution of stride 1, padded with zeros, that keeps the size.
        activation: a monotone s with slopes of at most 1, such as `nn.ReLU()` or `nn.Tanh()`.
    """

    def __init__(self, inner: nn.Linear | nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        if not isinstance(inner, nn.Linear | nn.Conv2d):
            raise WrongTypeError(f"inner is {inner!r}; expected an nn.Linear or an nn.Conv2d.")
        if isinstance(inner, nn.Conv2d) and not (inner.padding_mode == "zeros" and inner.stride == (1, 1)):
            raise MinimandError(f"inner is {inner}; expected stride 1 and padding with zeros.")
        activation = nn.ReLU() if activation is None else activation
        if not isinstance(activation, MONOTONE):
            known = ", ".join(kind.__name__ for kind in MONOTONE)
            raise MinimandError(f"activation is {activation}; expected slopes within [0, 1]: {known}.")
        self.inner, self.activation = inner, activation

    def forward(self, x: Tensor) -> Tensor:
        """The answer, of the shape of `x`."""
        return -self.gradient(x)

    def gradient(self, x: Tensor, scale: float | Tensor = 1.0) -> Tensor:
        """W^T s(W x + b), with W multiplied by a scale."""
        inner, weight = self.inner, scale * self.inner.weight
        if isinstance(inner, nn.Linear):
            return F.linear(self.activation(F.linear(x, weight, inner.bias)), weight.T)
        sides: tuple[int, ...] | str = inner.padding
        if isinstance(sides, str):
            same = sides == "same"
            sides = tuple(
                d * (k - 1) // 2 if same else 0 for d, k in zip(inner.dilation, inner.kernel_size, strict=True)
            )
        spread = {"padding": sides, "dilation": inner.dilation, "groups": inner.groups}
        hidden = self.activation(F.conv2d(x, weight, inner.bias, **spread))
        return F.conv_transpose2d(hidden, weight, **spread)

    def norm_bound(self) -> Tensor:
        """A bound on |W| with a gradient: a matrix's norm, or the sum of those of a convolution's taps."""
        weight = self.inner.weight
        if isinstance(self.inner, nn.Linear):
            return torch.linalg.matrix_norm(weight, 2)
        return torch.linalg.matrix_norm(weight.flatten(2).movedim(2, 0), 2).sum()
