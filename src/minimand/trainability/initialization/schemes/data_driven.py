"""Weights set by what a batch of data does in the network."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...._support.checks import check_number
from ...._support.errors import MinimandError, unknown_name
from ...._support.torch_internals import tree_leaves, tree_map
from ....networks.kinds import NORMALIZATIONS
from ...measure.flow import Call, tensors
from ...measure.tracing import arguments, broken_parameters, measured, trace, undisturbed
from ..job import Job
from ..weights import read, sources
from .isometry import orthogonal
from .registry import scheme

# Below this share of its deviation a layer's output tells samples no longer apart.
_ALIKE = 1e-4
_ONE_SAMPLE = "the batch is one sample: another may meet other deviations; give more."
_EPSILON = 1e-5
_ATTEMPTS = 10
# The least factor that gradinit leaves a weight, and the fewest samples that it draws from.
_LEAST, _DRAWN = 0.01, 12
# Factors cross the cap to and fro.
_HOVERS = 1.5
_KINDS: tuple[Literal["weight", "bias"], ...] = ("weight", "bias")
_Optimizer = Literal["sgd", "adam"]


@scheme("batch", traced=False, references=("saxe2014exact", "mishkin2016lsuv"))
def lsuv(job: Job, orthonormal: bool = True, tolerance: float = 0.1) -> None:
    """Orthogonal weights, then each divided by the deviation of its output on the batch (Mishkin & Matas, 2016).

    In one forward pass: a layer is rescaled as it runs and what it returned with it, so that the next one reads what
    it will read. With biases 0 that is exact. Layers whose weights are all 0, as at the end of a branch, keep them;
    recurrent layers, whose output is not proportional to a weight, are left orthogonal. A layer of one's own, whose
    output may not follow its weight, as with standardized weights, is run again to see what was reached.
    """
    check_number("tolerance", tolerance, 0, math.inf)
    names = {layer.name: layer for layer in job.layers}
    zero = [layer for layer in job.layers if not any(read(job.model, name).any() for name in layer.named("weight"))]
    for layer in zero:
        job.left_alone.update(dict.fromkeys([*layer.named("weight"), *layer.named("bias")], "its weights are 0"))
    _refuse_shared(job)
    if orthonormal:
        orthogonal(job)

    def rescale(call: Call, output: Tensor) -> Tensor | None:
        layer = names.get(call.name)
        if layer is None or layer in zero or layer.recurrent:
            return None
        if call.run:
            raise MinimandError(f"{call.name} runs more than once: no one scale is right for all its runs. Exclude it.")
        attention = isinstance(call.module, nn.MultiheadAttention)
        name = layer.parameter("out_proj.weight" if attention else "weight")
        if not job.may_set(name):
            return None
        for bias in layer.named("bias"):
            if read(job.model, bias).any():
                raise MinimandError(
                    f"{bias} is not 0, so the output is not proportional to the weight; do not exclude it."
                )
        std = _deviation(job, call.name, output)
        job.multiply(name, 1 / std)
        if _proportional(call.module):
            return output / std
        for _ in range(_ATTEMPTS):
            output = next(tensors(call.module.forward(*call.given[0], **call.given[1])))
            std = _deviation(job, call.name, output)
            if abs(std - 1) <= tolerance:
                return output
            job.multiply(name, 1 / std)
        job.notes.append(
            f"{call.name} did not converge: its output has std {std:.4g}, expected 1 within {tolerance:g}."
        )
        return output

    with undisturbed(job.model), torch.no_grad():
        measured(job.model)
        seen = trace(job.model, job.batch, rescale)
    orthogonal_only = {name: "recurrent" for name, layer in names.items() if layer.recurrent}
    orthogonal_only |= {name: "not run by this batch" for name in seen.unused if name in names}
    for name, why in orthogonal_only.items():
        job.notes.append(f"{name} is not rescaled: {why}.")


@scheme("batch", traced=False, references=("dauphin2019metainit",))
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
    if job.loss is None or job.target is None:
        raise MinimandError(
            "metainit follows the gradient of a loss; give loss=, such as F.cross_entropy, and target=."
        )
    names = [name for layer in job.layers for name in layer.named("weight") if job.may_set(name)]
    weights = {name: read(job.model, name) for name in names if read(job.model, name).any()}
    factors, velocity = [1.0] * len(weights), [0.0] * len(weights)
    first, best = None, (math.inf, list(factors))
    with undisturbed(job.model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        measured(job.model)
        for _ in range(steps + 1):
            leaves = [
                torch.tensor(f, dtype=w.dtype, device=w.device) for f, w in zip(factors, weights.values(), strict=True)
            ]
            for leaf in leaves:
                leaf.requires_grad_()
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


@scheme("batch", traced=False, references=("zhu2021gradinit",))
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

    Raises:
        ValueError: no loss or target, or a gradient that is 0 or not finite.
    """
    if optimizer not in get_args(_Optimizer):
        raise unknown_name("optimizer of gradinit", str(optimizer), get_args(_Optimizer))
    eta = {"sgd": 0.1, "adam": 1e-3}[optimizer] if eta is None else eta
    check_number("eta", eta, 1e-12, math.inf)
    gamma = 0.1 / eta if gamma is None else gamma
    check_number("gamma", gamma, 0, math.inf)
    check_number("lr", lr, 0, math.inf)
    check_number("steps", steps, 1, math.inf, whole=True)
    if job.loss is None or job.target is None:
        raise MinimandError(
            "gradinit follows the gradient of a loss; give loss=, such as F.cross_entropy, and target=."
        )
    values = {name: p.detach().requires_grad_() for name, p in job.model.named_parameters() if p.requires_grad}
    factors = {name: values[name].new_ones((), requires_grad=True) for name in _scalable(job, values)}
    movers = {over: torch.optim.Adam(factors.values(), lr) for over in (False, True)}
    with undisturbed(job.model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        measured(job.model)
        before = _first_step(job, values, factors, (None, None), optimizer, eta)
        for _ in range(steps):
            size, after = _first_step(job, values, factors, _overlapping(job), optimizer, eta)
            over = bool(size > gamma)
            followed = size if over else after / eta
            slopes = torch.autograd.grad(followed, list(factors.values()), allow_unused=True)
            for factor, slope in zip(factors.values(), slopes, strict=True):
                factor.grad = None if slope is None else slope.clamp(-1, 1)
            movers[over].step()
            with torch.no_grad():
                for name, factor in factors.items():
                    factor.clamp_(min=0.0 if name.endswith("bias") else _LEAST)
        size, after = _first_step(job, values, factors, (None, None), optimizer, eta)
    for name, factor in factors.items():
        job.multiply(name, float(factor.detach()))
    job.notes.append(
        f"norm of the gradient {before[0]:.4g} before, {size:.4g} after; loss after a step of {eta:g}: {before[1]:.4g} "
        f"before, {after:.4g} after; {steps} steps."
    )
    if size > _HOVERS * gamma:
        job.notes.append(f"did not converge: the norm of the gradient is {size:.4g}, expected at most {gamma:g}.")


def _scalable(job: Job, values: dict[str, Tensor]) -> list[str]:
    """The parameters of layers and normalizations that may be written and are not all 0."""
    norms = [name for name, module in job.model.named_modules() if isinstance(module, NORMALIZATIONS)]
    own = {name for layer in job.layers for kind in _KINDS for name in layer.named(kind)}
    own |= {f"{name}.{kind}".removeprefix(".") for name in norms for kind in _KINDS}
    found = [name for name, value in values.items() if name in own and value.any() and job.may_set(name)]
    if not found:
        raise MinimandError("gradinit finds a factor for each weight that is not 0, and there is none to be set.")
    return found


def _first_step(
    job: Job,
    values: dict[str, Tensor],
    factors: dict[str, Tensor],
    draws: tuple[Tensor | None, Tensor | None],
    optimizer: _Optimizer,
    eta: float,
) -> tuple[Tensor, Tensor]:
    """The norm of the gradient, and the loss after a step along it."""
    scaled = {name: factors[name] * value if name in factors else value for name, value in values.items()}
    found = torch.autograd.grad(
        _loss(job, scaled, draws[0]), list(scaled.values()), create_graph=True, allow_unused=True
    )
    slopes = [torch.zeros_like(v) if g is None else g for g, v in zip(found, scaled.values(), strict=True)]
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


def _overlapping(job: Job) -> tuple[Tensor | None, Tensor | None]:
    """Two draws of two thirds of the samples, half of each in common; none where samples cannot be told."""
    leaves = tree_leaves((job.batch, job.target))
    lengths = {len(leaf) if isinstance(leaf, Tensor) and leaf.ndim else 0 for leaf in leaves}
    if len(lengths) > 1 or min(lengths) < _DRAWN:
        return None, None
    order = torch.randperm(lengths.pop(), generator=job.generator, device=job.generator.device)
    shared, first, second = order.tensor_split(3)
    return torch.cat([shared, first]), torch.cat([shared, second])


def _gradient_quotient(job: Job, weights: dict[str, Tensor]) -> Tensor:
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


def _refuse_shared(job: Job) -> None:
    weights = {p for layer in job.layers for name in layer.named("weight") for p in sources(job.model, name)}
    holders: dict[nn.Parameter, tuple[str, str]] = {}
    for name, parameter in job.model.named_parameters(remove_duplicate=False):
        # Weight and bias of one layer may share a factor.
        layer = f".{name}".partition(".parametrizations.")[0] if ".parametrizations." in f".{name}" else name
        holder, other = holders.setdefault(parameter, (layer, name))
        if holder != layer and parameter in weights:
            raise MinimandError(
                f"{name} and {other} are one parameter: no one scale is right for both. Exclude their layers."
            )


def _deviation(job: Job, name: str, output: Tensor) -> float:
    output = output.detach().float()
    if not bool(output.isfinite().all()):
        bad = ", ".join(broken_parameters(job.model))
        raise MinimandError(
            f"{name} returned values that are not finite. Parameters with such values: {bad or 'none'}."
        )
    std, size = float(output.std(correction=0)), float(output.square().mean().sqrt())
    if std <= 1e-6 * size:
        raise MinimandError(
            f"the output of {name} is {float(output.flatten()[0]):.3g} everywhere: its input is constant, or 0 because "
            "the units before it are dead. Give a batch that varies, or exclude it."
        )
    if len(output) == 1 and _ONE_SAMPLE not in job.notes:
        job.notes.append(_ONE_SAMPLE)
    across = float(output.std(0, correction=0).square().mean().sqrt())
    if len(output) > 1 and across < _ALIKE * std:
        job.notes.append(
            f"{name} can hardly tell samples apart: they deviate by {across / std:.1e} of its output's std."
        )
    return std


def _proportional(module: nn.Module) -> bool:
    """Whether a layer's output is its weight's multiple, as of those of torch."""
    return all(cls.__module__.startswith("torch.") for cls in type(module).__mro__[:-1])
