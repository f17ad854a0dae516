"""Oracles that are known: proximal operators in closed form, and the pieces of min |A u - b|^2 / 2 + w |u|_1.

The state of the latter is z = (u, b): the observation b is carried along, and nothing moves it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._support.errors import MinimandError, WrongTypeError
from ..theory.kernel import Binding


class Prox(nn.Module):
    """A module that answers a `prox` oracle: prox(v, s) minimizes g(p) + |p - v|^2 / (2 s) over p.

    The network of an algorithm with known or learned ones is explicit: algorithm unrolling.
    """

    binding: Binding | None = None
    """The binding of the networks that the block is for; None for any, as the prox is that of its own function."""

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        """The minimizer, of the shape of `point`."""
        raise WrongTypeError(f"{type(self).__name__} has no method forward(self, point, step_size).")


class OnUnknown(nn.Module):
    """A block that moves the unknown u and leaves the observation b: T(u, b) = (module(u, b), 0)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor) -> Tensor:
        moved = self.module(z)
        return F.pad(moved, (0, z.shape[-1] - moved.shape[-1]))


def least_squares(matrix: Tensor) -> OnUnknown:
    """A fixed oracle for the residual binding: A^T (b - A u), minus the gradient of |A u - b|^2 / 2, for A (m, n)."""
    rows, columns = matrix.shape
    gradient = nn.Linear(columns + rows, columns, bias=False, dtype=matrix.dtype)
    with torch.no_grad():
        gradient.weight.copy_(torch.cat([-matrix.T @ matrix, matrix.T], dim=1))
    return OnUnknown(gradient.requires_grad_(False))


class SoftThreshold(Prox):
    """The prox of w |u|_1 on the first `size` entries: sign(v) max(|v| - s w, 0), with a fixed or learned w."""

    def __init__(self, size: int, weight: float, learned: bool = False) -> None:
        super().__init__()
        if weight < 0:
            raise MinimandError(f"weight is {weight}; expected at least 0.")
        self.size = size
        self.weight = nn.Parameter(torch.full((size,), float(weight)), requires_grad=learned)

    def forward(self, point: Tensor, step_size: float | Tensor) -> Tensor:
        unknown, observation = point[..., : self.size], point[..., self.size :]
        threshold = (step_size * self.weight).clamp_min(0)
        return torch.cat([unknown - unknown.clamp(-threshold, threshold), observation], dim=-1)
