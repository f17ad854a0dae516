"""Promises that z = block(z, x) has one solution, read off a block."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from ...layers.convex_gradient import MONOTONE, ConvexGradient
from .injected import Injected


class Monotone(nn.Module):
    """A block with one solution for all of its weights: injection(x) - W^T s(W z + b) with a monotone s.

    z - block(z, x) is strongly monotone, and the solution minimizes a strongly convex function. `relaxation()` is one
    with which the plain iteration converges to it; Anderson's needs none.

    Args:
        inner: W and b, a linear layer, or a convolution of stride 1, padded with zeros, that keeps the size.
        injection: what x goes through, to the shape of z.
        activation: a monotone activation with slopes of at most 1.
    """

    def __init__(self, inner: nn.Linear | nn.Conv2d, injection: nn.Module, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.potential, self.injection = ConvexGradient(inner, activation), injection

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The state of shape (N, ...) that follows z, for the injected input x."""
        return self.injection(x) + self.potential(z)

    @torch.no_grad()
    def relaxation(self) -> float:
        """The largest relaxation of the plain iteration that is sure to converge: 1 / (1 + |W|^2 / 2)."""
        return 1 / (1 + lipschitz_bound(self.potential) / 2)


_SLOPES: dict[type[nn.Module], float] = {
    nn.Identity: 1.0,
    nn.Flatten: 1.0,
    nn.ReLU: 1.0,
    nn.ReLU6: 1.0,
    nn.Hardtanh: 1.0,
    nn.Tanh: 1.0,
    nn.Sigmoid: 0.25,
    nn.Softplus: 1.0,
    nn.ELU: 1.0,
    nn.Softsign: 1.0,
    nn.GELU: 1.13,
    nn.SiLU: 1.1,
}
"""The largest slope of each activation, by its class: its Lipschitz constant."""


@torch.no_grad()
def lipschitz_bound(module: nn.Module) -> float:
    """A bound of the Lipschitz constant of a module in the Euclidean norm, for the weights it has; inf where unknown.

    Linear layers have their spectral norm, convolutions the sum of those of their taps, activations their largest
    slope, and a sequence the product.
    """
    if any(p.is_meta for p in module.parameters()):
        return math.inf
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        return math.prod(map(lipschitz_bound, module)) if len(module) else 1.0
    if isinstance(module, ConvexGradient):
        slope = _SLOPES.get(type(module.activation), math.inf)
        return slope * float(module.norm_bound()) ** 2
    kind = type_before_parametrizations(module)
    is_known = kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # of a class derived from them nothing is
    if is_known and isinstance(module, nn.Linear):
        return float(torch.linalg.matrix_norm(module.weight.float(), 2))
    if not is_known or not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return _SLOPES.get(type(module), math.inf)
    if module.padding_mode == "zeros" and module.groups == 1:
        taps = module.weight.float().flatten(2).movedim(2, 0)
        return float(torch.linalg.matrix_norm(taps, 2).sum())
    return math.inf


def why_unique(block: nn.Module) -> str | None:
    """What promises one solution of z = block(z, x) for every x; None where nothing is known."""
    if isinstance(block, Monotone) and isinstance(block.potential.activation, MONOTONE):
        return f"monotone for all weights; mm.FixedPoint(relaxation={block.relaxation():.2g}) converges"
    if isinstance(block, Injected) and (bound := lipschitz_bound(block.body)) < 1:
        return f"a contraction: its Lipschitz constant is at most {bound:.2g}"
    return None
