"""How far each gradient of a solution is from the exact one."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from ..algorithms import leaves, rebuild
from .equilibrium import Equilibrium
from .gradient import GRADIENTS, Gradient, as_gradient, zeros_for_none
from .gradients.reversible import Reversible
from .solvers.anderson import Anderson


@dataclass(frozen=True)
class GradientError:
    """The distance of a gradient from the exact one, of a random linear loss, to parameters and inputs together."""

    relative: float
    """The relative error, |gradient - exact| / |exact|."""
    cosine: float
    """The cosine of the angle between the gradient and the exact one."""


@dataclass(frozen=True)
class GradientErrors:
    """The errors of gradients by name, of a block at a batch; printed as a table."""

    errors: dict[str, GradientError]

    def __str__(self) -> str:
        rows = [f"{name:40}{e.relative:16.2g}{e.cosine:9.4f}" for name, e in self.errors.items()]
        return "\n".join([f"{'gradient':40}{'relative error':>16}{'cosine':>9}", *rows])


def gradient_errors(
    layer: Equilibrium, *inputs: Any, start: Any = None, gradients: tuple[Gradient | str, ...] = (), **shared: Any
) -> GradientErrors:
    """Measure how far gradients of a layer's solution are from the exact one, in float64 and evaluation mode.

    The exact one is the implicit gradient of a solve to 1e-12; the loss is a product with noise, so that an error is
    the typical one of a direction.

    Args:
        layer: an equilibrium; it is not changed.
        inputs: what it is called with, `start` and `shared` too.
        gradients: some such as "phantom(steps=2)"; by default every one, with its usual settings.

    Raises:
        MinimandError: the block has no solution that is found to 1e-12.
    """
    block = copy.deepcopy(layer.block).double().eval()
    inputs = tuple(_double(x, requires_grad=True) for x in inputs)
    start = None if start is None else _double(start)
    shared = {name: _double(x) if isinstance(x, Tensor) else x for name, x in shared.items()}
    tight = Anderson(tolerance=1e-12, max_steps=500, memory=10)
    exact = Equilibrium.from_function(block, tight).eval()
    reference = _gradient_of(exact, block, inputs, start, shared)
    if exact.tally.converged < exact.tally.samples or exact.tally.gradients_converged < exact.tally.gradients:
        raise MinimandError(
            "gradients cannot be judged where there is no exact one: the block's equation, or that of its gradient, is "
            f"not solved to 1e-12 in 500 steps of Anderson's for all samples ({exact.tally}); expected a block whose "
            "solve converges."
        )
    errors = {}
    for name in gradients or tuple(GRADIENTS):
        gradient = as_gradient(name)
        own = gradient.usual_solver() if isinstance(gradient, Reversible) else layer.solver
        approximate = _gradient_of(Equilibrium.from_function(block, own, gradient).eval(), block, inputs, start, shared)
        relative = float((approximate - reference).norm() / reference.norm())
        errors[str(name)] = GradientError(relative, float(torch.cosine_similarity(approximate, reference, 0)))
    return GradientErrors(errors)


def _gradient_of(layer: Equilibrium, block: nn.Module, inputs: tuple[Any, ...], start: Any, shared: Any) -> Tensor:
    outputs = leaves(layer(*inputs, start=start, **shared))
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device) for y in outputs]
    of = [*block.parameters(), *(leaf for value in inputs for leaf in leaves(value))]
    of = [x for x in of if x.requires_grad]
    return torch.cat(
        [g.flatten() for g in zeros_for_none(torch.autograd.grad(outputs, of, noise, allow_unused=True), of)]
    )


def _double(value: Any, requires_grad: bool = False) -> Any:
    return rebuild(value, [leaf.detach().double().requires_grad_(requires_grad) for leaf in leaves(value)])
