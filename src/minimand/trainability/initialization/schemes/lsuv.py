"""Layer-sequential unit variance: weights scaled by what a batch makes of them."""

import math

import torch
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError
from ....networks.undisturbed import undisturbed
from ...measure.flow import LayerCall, tensors
from ...measure.tracing import broken_parameters, measured, solved, trace
from ..scheme import Job, scheme
from ..weighted_layers import WeightedLayer
from ..weights import read, sources
from .orthogonal import orthogonal

# Below this share of its deviation a layer's output hardly tells samples apart.
_ALIKE = 1e-4
_ONE_SAMPLE = "the batch is one sample: another may meet other deviations; give more."
_ATTEMPTS = 10


@scheme("lsuv", needs=("batch",), traced=False, references=("saxe2014exact", "mishkin2016lsuv"))
def lsuv(job: Job, orthonormal: bool = True, tolerance: float = 0.1) -> None:
    """Orthogonal weights, then each divided by the deviation of its output on the batch (Mishkin & Matas, 2016).

    In one forward pass: a layer is rescaled as it runs and what it returned with it, so that the next one reads what
    it will read. With biases 0 that is exact. Layers whose weights are all 0, as at the end of a branch, keep them;
    recurrent layers, whose output is not proportional to a weight, are left orthogonal. A layer of one's own, whose
    output may not follow its weight, as with standardized weights, is run again to see what was reached.
    """
    check_number("tolerance", tolerance, 0, math.inf)
    names = {layer.name: layer for layer in job.layers}
    _refuse_solved(job)
    zero = [layer for layer in job.layers if not any(read(job.model, name).any() for name in layer.named("weight"))]
    for layer in zero:
        job.left_alone.update(dict.fromkeys([*layer.named("weight"), *layer.named("bias")], "its weights are 0"))
    _refuse_shared(job)
    if orthonormal:
        orthogonal(job)

    def visit(call: LayerCall, output: Tensor) -> Tensor | None:
        layer = names.get(call.name)
        if layer is None or layer in zero or layer.recurrent:
            return None
        return _rescale(job, layer, call, output, tolerance)

    with undisturbed(job.model), torch.no_grad():
        measured(job.model)
        model_trace = trace(job.model, job.batch, visit)
    orthogonal_only = {name: "recurrent" for name, layer in names.items() if layer.recurrent}
    orthogonal_only |= {name: "not run by this batch" for name in model_trace.unused if name in names}
    for name, why in orthogonal_only.items():
        job.notes.append(f"{name} is not rescaled: {why}.")


def _rescale(job: Job, layer: WeightedLayer, call: LayerCall, output: Tensor, tolerance: float) -> Tensor | None:
    """Divide the weight of a layer by the deviation of its output; the output that it then has, None for no change."""
    if call.run:
        raise MinimandError(f"{call.name} runs more than once: no one scale is right for all its runs. Exclude it.")
    attention = isinstance(call.module, nn.MultiheadAttention)
    name = layer.parameter("out_proj.weight" if attention else "weight")
    if not job.may_set(name):
        return None
    for bias in layer.named("bias"):
        if read(job.model, bias).any():
            raise MinimandError(f"{bias} is not 0, so the output is not proportional to the weight; do not exclude it.")
    std = _deviation(job, call.name, output)
    job.multiply(name, 1 / std)
    # The output of torch's own layers is proportional to the weight.
    if all(cls.__module__.startswith("torch.") for cls in type(call.module).__mro__[:-1]):
        return output / std
    for _ in range(_ATTEMPTS):
        args, kwargs = call.arguments
        output = next(tensors(call.module.forward(*args, **kwargs)))
        std = _deviation(job, call.name, output)
        if abs(std - 1) <= tolerance:
            return output
        job.multiply(name, 1 / std)
    job.notes.append(f"{call.name} did not converge: its output has std {std:.4g}, expected 1 within {tolerance:g}.")
    return output


def _refuse_solved(job: Job) -> None:
    parts = solved(job.model)
    inside = [layer.name for layer in job.layers if layer.module in parts]
    if inside:
        raise MinimandError(
            f"an equilibrium's solver runs {', '.join(inside)} until states are at rest, and where they are moves with "
            "every scale. Exclude what is in it, or use 'orthogonal'."
        )


def _refuse_shared(job: Job) -> None:
    weights = {p for layer in job.layers for name in layer.named("weight") for p in sources(job.model, name)}
    holders: dict[nn.Parameter, tuple[str, str]] = {}
    for name, parameter in job.model.named_parameters(remove_duplicate=False):
        # Weight and bias of one layer may share a factor.
        layer = f".{name}".partition(".parametrizations.")[0] if ".parametrizations." in f".{name}" else name
        holder, first_name = holders.setdefault(parameter, (layer, name))
        if holder != layer and parameter in weights:
            raise MinimandError(
                f"{name} and {first_name} are one parameter: no one scale is right for both. Exclude their layers."
            )


def _deviation(job: Job, name: str, output: Tensor) -> float:
    """The standard deviation of a layer's output; an error where it has none, a note where samples look alike."""
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
