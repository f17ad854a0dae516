"""Schemes that learn the scales of weights from gradients on a batch."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...._support.checks import check_choice, check_number
from ...._support.errors import MinimandError
from ...._support.torch.internals import tree_leaves, tree_map
from ....networks.kinds import normalizations
from ....networks.undisturbed import undisturbed
from ...measure.tracing import arguments, measured
from ..scheme import Job, scheme
from ..weights import read

# The least factor that a weight is left with, and the fewest samples that it is drawn from.
_LEAST_FACTOR, _FEWEST_SAMPLES = 0.01, 12
# Factors cross the cap to and fro; beyond this multiple of it the norm of the gradient did not converge.
_HOVERING = 1.5
# The gradient quotient is smoothed where gradients are below this.
_EPSILON = 1e-5
_Optimizer = Literal["sgd", "adam"]
_Weights = dict[str, Tensor]
_Draws = tuple[Tensor | None, Tensor | None]


@scheme("metainit", needs=("batch", "loss"), traced=False, references=("dauphin2019metainit",))
def metainit(job: Job, steps: int = 100, lr: float = 0.1, momentum: float = 0.9) -> None:
    """Learn the norms of the weights so that a gradient step meets little curvature (Dauphin & Schoenholz, 2019).

    Minimizes mean |(g - H g) / (g + eps sign g) - 1| over the norms by signed gradient descent with momentum, from
    the weights as they are, and keeps the best norms met. Needs `target` and `loss`, and gradients that are not too
    small; an activation with second derivatives serves best.
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
    values = list(weights.values())
    gradients = torch.autograd.grad(_loss(job, weights, None), values, create_graph=True)
    size = max(float(g.detach().abs().max()) for g in gradients)
    if not size > 10 * _EPSILON:
        raise MinimandError(
            f"the largest gradient is {size:.3g}; metainit needs one that is finite and far above {_EPSILON:g}: set "
            "the scale first, by 'critical' or 'lsuv'."
        )
    half_square = sum((g.square().sum() for g in gradients), torch.zeros(())) / 2
    products = torch.autograd.grad(half_square, values, create_graph=True)
    signs = [torch.where(g.detach() >= 0, 1.0, -1.0) for g in gradients]
    terms = [((g - h) / (g + _EPSILON * sign) - 1).abs() for g, h, sign in zip(gradients, products, signs, strict=True)]
    return sum((t.sum() for t in terms), torch.zeros(())) / sum(t.numel() for t in terms)


@scheme("gradinit", needs=("batch", "loss"), traced=False, references=("zhu2021gradinit",))
def gradinit(
    job: Job,
    optimizer: _Optimizer = "sgd",
    eta: float | None = None,
    gamma: float | None = None,
    steps: int = 390,
    lr: float = 1e-2,
) -> None:
    """Learn a factor for each parameter so that the first step of training lowers the loss most (Zhu et al., 2021).

    The step is eta g / |g| of SGD or eta sign g of Adam. As long as the norm of the gradient, L2 or L1, is above gamma,
    factors move to lower it, else to lower the loss after the step. They start at 1, are moved by Adam at the rate
    lr, their slopes cut at 1, and stay above 0.01, those of biases above 0, as in the published code. Gradient and
    loss are of two draws of two thirds of the batch that share a half, if all of it and the target lie along one first
    dimension, else of the whole batch. Needs `target` and `loss`.
    """
    check_choice("optimizer of gradinit", optimizer, _Optimizer)
    eta = {"sgd": 0.1, "adam": 1e-3}[optimizer] if eta is None else eta
    check_number("eta", eta, 1e-12, math.inf)
    gamma = 0.1 / eta if gamma is None else gamma
    check_number("gamma", gamma, 0, math.inf)
    check_number("lr", lr, 0, math.inf)
    check_number("steps", steps, 1, math.inf, whole=True)
    values = {name: p.detach().requires_grad_() for name, p in job.model.named_parameters() if p.requires_grad}
    factors = {name: values[name].new_ones((), requires_grad=True) for name in _scalable(job, values)}
    optimizers = {over_cap: torch.optim.Adam(factors.values(), lr) for over_cap in (False, True)}
    with undisturbed(job.model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        measured(job.model)
        before = _first_step(job, values, factors, (None, None), optimizer, eta)
        for _ in range(steps):
            size, after = _first_step(job, values, factors, _overlapping(job), optimizer, eta)
            over_cap = bool(size > gamma)
            objective = size if over_cap else after / eta
            slopes = torch.autograd.grad(objective, list(factors.values()), allow_unused=True)
            for factor, slope in zip(factors.values(), slopes, strict=True):
                factor.grad = None if slope is None else slope.clamp(-1, 1)
            optimizers[over_cap].step()
            with torch.no_grad():
                for name, factor in factors.items():
                    factor.clamp_(min=0.0 if name.endswith("bias") else _LEAST_FACTOR)
        size, after = _first_step(job, values, factors, (None, None), optimizer, eta)
    for name, factor in factors.items():
        job.multiply(name, float(factor.detach()))
    job.notes.append(
        f"norm of the gradient {before[0]:.4g} before, {size:.4g} after; loss after a step of {eta:g}: {before[1]:.4g} "
        f"before, {after:.4g} after; {steps} steps."
    )
    if size > _HOVERING * gamma:
        job.notes.append(f"did not converge: the norm of the gradient is {size:.4g}, expected at most {gamma:g}.")


def _scalable(job: Job, values: dict[str, Tensor]) -> list[str]:
    """The parameters of layers and normalizations that may be written and are not all 0."""
    candidates = {name for layer in job.layers for name in (*layer.named("weight"), *layer.named("bias"))}
    candidates.update(name for norm in normalizations(job.model) for name in job.leaves(norm))
    names = [name for name, value in values.items() if name in candidates and value.any() and job.may_set(name)]
    if not names:
        raise MinimandError("gradinit finds a factor for each weight that is not 0, and there is none to be set.")
    return names


def _first_step(
    job: Job, values: _Weights, factors: _Weights, draws: _Draws, optimizer: _Optimizer, eta: float
) -> tuple[Tensor, Tensor]:
    """The norm of the gradient, and the loss after a step along it."""
    scaled = {name: factors[name] * value if name in factors else value for name, value in values.items()}
    loss = _loss(job, scaled, draws[0])
    gradients = torch.autograd.grad(loss, list(scaled.values()), create_graph=True, allow_unused=True)
    slopes = [torch.zeros_like(v) if g is None else g for g, v in zip(gradients, scaled.values(), strict=True)]
    parts = [g.abs().sum() if optimizer == "adam" else g.square().sum() for g in slopes]
    size = torch.stack(parts).sum()
    size = size if optimizer == "adam" else size.sqrt()
    if not 0 < size < math.inf:
        raise MinimandError(f"the norm of the gradient is {size:.3g}: set the scale first, by 'critical' or 'lsuv'.")
    step = [g.sign() if optimizer == "adam" else g / size for g in slopes]
    moved = {name: v - eta * g.detach() for (name, v), g in zip(scaled.items(), step, strict=True)}
    return size, _loss(job, moved, draws[1])


def _loss(job: Job, weights: dict[str, Tensor], draw: Tensor | None) -> Tensor:
    batch, target = job.batch, job.target
    if draw is not None:
        batch, target = tree_map(lambda leaf: leaf[draw.to(leaf.device)], (batch, target))
    args, kwargs = arguments(batch)
    assert job.loss is not None
    return job.loss(functional_call(job.model, weights, args, kwargs), target)


def _overlapping(job: Job) -> _Draws:
    """Indices of two thirds of the samples, twice, half of each in common; None where samples cannot be told."""
    leaves = tree_leaves((job.batch, job.target))
    lengths = {len(leaf) if isinstance(leaf, Tensor) and leaf.ndim else 0 for leaf in leaves}
    if len(lengths) > 1 or min(lengths) < _FEWEST_SAMPLES:
        return None, None
    order = torch.randperm(lengths.pop(), generator=job.generator, device=job.generator.device)
    shared, first, second = order.tensor_split(3)
    return torch.cat([shared, first]), torch.cat([shared, second])
