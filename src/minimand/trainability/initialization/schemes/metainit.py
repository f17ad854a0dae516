"""Norms of weights for which a gradient step meets little curvature."""

import math

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...._support.checks import check_number
from ...._support.errors import MinimandError
from ...measure.tracing import arguments, measured, undisturbed
from ..job import Job
from ..scheme import scheme
from ..weights import read

_EPSILON = 1e-5


@scheme("metainit", needs=("batch", "loss"), traced=False, references=("dauphin2019metainit",))
def metainit(job: Job, steps: int = 100, lr: float = 0.1, momentum: float = 0.9) -> None:
    """Learn the norms of the weights so that a gradient step meets little curvature (Dauphin & Schoenholz, 2019).

    Minimizes mean |(g - H g) / (g + eps sign g) - 1| over the norms by signed gradient descent with momentum, from
    the weights as they are, and keeps the best norms met. Needs `target` and `loss`; an activation with second
    derivatives serves best.

    Raises:
        ValueError: no loss or target, or gradients so small that the quotient says nothing.
    """
    check_number("steps", steps, 1, math.inf, whole=True)
    check_number("lr", lr, 0, math.inf)
    check_number("momentum", momentum, 0, 1, below=True)
    names = [name for layer in job.layers for name in layer.named("weight") if job.may_set(name)]
    weights = {name: read(job.model, name) for name in names if read(job.model, name).any()}
    factors, velocity = [1.0] * len(weights), [0.0] * len(weights)
    first, best = None, (math.inf, list(factors))
    with undisturbed(job.model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        measured(job.model)
        for _ in range(steps + 1):
            pairs = zip(factors, weights.values(), strict=True)
            leaves = [torch.tensor(f, dtype=w.dtype, device=w.device).requires_grad_() for f, w in pairs]
            scaled = {name: leaf * w for leaf, (name, w) in zip(leaves, weights.items(), strict=True)}
            quotient = _gradient_quotient(job, scaled)
            first = float(quotient.detach()) if first is None else first
            best = min(best, (float(quotient.detach()), list(factors)))
            slopes = torch.autograd.grad(quotient, leaves, allow_unused=True)
            for i, (slope, weight) in enumerate(zip(slopes, weights.values(), strict=True)):
                sign = 0.0 if slope is None else float(slope.sign())
                velocity[i] = momentum * velocity[i] - lr * sign
                # The step is in the norm of the weight, which stays above 0.
                factors[i] = max(factors[i] + velocity[i] / float(weight.norm()), 1e-2)
    for name, factor in zip(weights, best[1], strict=True):
        job.multiply(name, factor)
    job.notes.append(f"gradient quotient {first:.4g} before, {best[0]:.4g} after; {steps} steps.")


def _gradient_quotient(job: Job, weights: dict[str, Tensor]) -> Tensor:
    """The mean of |(g - H g) / (g + eps sign g) - 1| over all entries of the gradient g; H is the Hessian."""
    args, kwargs = arguments(job.batch)
    assert job.loss is not None
    values = list(weights.values())
    loss = job.loss(functional_call(job.model, weights, args, kwargs), job.target)
    gradients = torch.autograd.grad(loss, values, create_graph=True)
    size = max(float(g.detach().abs().max()) for g in gradients)
    if not size > 10 * _EPSILON:
        raise MinimandError(
            f"the largest gradient is {size:.3g}; metainit needs one that is finite and far above {_EPSILON:g}: set "
            "the scale first, by 'critical' or 'lsuv'."
        )
    products = torch.autograd.grad(
        sum((g.square().sum() for g in gradients), torch.zeros(())) / 2, values, create_graph=True
    )
    terms = [((g - h) / (g + _EPSILON * _sign(g)) - 1).abs() for g, h in zip(gradients, products, strict=True)]
    return sum((t.sum() for t in terms), torch.zeros(())) / sum(t.numel() for t in terms)


def _sign(g: Tensor) -> Tensor:
    return torch.where(g.detach() >= 0, 1.0, -1.0)
