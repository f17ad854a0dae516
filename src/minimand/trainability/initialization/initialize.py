"""Where training starts: the weights of any model, by a named scheme."""

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..._support.checks import check_number
from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ..._support.torch_internals import children_and_hooks
from ...layers.thresholds import Threshold
from ...networks.kinds import check_model, is_layer, layers
from ..mean_field.activation import ACTIVATIONS
from ..measure.branches import Branch
from ..measure.branches import branches as find_branches
from ..measure.flow import Applied
from ..measure.statistics import Loss, as_function
from ..measure.tracing import (
    Trace,
    broken_parameters,
    buffers_back,
    check_parameters,
    explained,
    measured,
    trace,
    undisturbed,
)
from .job import Job, Layer, deviation
from .report import InitReport
from .schemes.registry import read_scheme
from .weights import read

# Modules of torch's activation file that are no function of a single number.
_NOT_BY_ENTRY = (nn.MultiheadAttention, nn.GLU, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin)


def initialize(
    model: nn.Module,
    scheme: str = "auto",
    *,
    batch: Any = None,
    target: Any = None,
    loss: Loss | None = None,
    activation: str | Callable[[Tensor], Tensor] | None = None,
    depth: int | None = None,
    branches: Iterable[str] = (),
    exclude: Iterable[str] = (),
    generator: torch.Generator | None = None,
    dry_run: bool = False,
) -> InitReport:
    """Set the weights of a model, in place, and say what was set and why.

    Linear, convolutional, attention and recurrent layers are set, their biases to 0 unless the scheme says otherwise;
    normalization, embeddings, frozen parameters and whatever is excluded stay. With a batch, which layer reads which
    activation, and what is a residual branch, is seen as the batch runs through; without, every layer but the first
    of the model, or of a branch, is taken to read the model's one activation. If anything is refused the model is as
    it was. Mode, buffers, requires_grad and torch's random state stay in any case.

    Args:
        model: any module.
        scheme: a name, with options as in "critical(q=0.5)": naive, lecun, xavier, geometric, kaiming,
            sigmoid_recentred, orthogonal, delta_orthogonal, critical, looks_linear, lsuv, metainit, gradinit, depth,
            skipinit, rezero, fixup, deepnorm, tfixup, recurrent; or auto, which chooses by the structure.
        batch: what the model is called with: a tensor, a tuple of arguments, a mapping of named ones.
        target: what the loss compares with (metainit, gradinit).
        loss: "cross_entropy", "mse" or a function of the model's output and the target (metainit, gradinit).
        activation: what every layer but the first reads, a name or a function, if it is not to be looked for.
        depth: the number of layers that `critical` chooses its point for; by default those of the model.
        branches: names of the modules whose output is added to a skip, if they are not to be looked for.
        exclude: names of modules or parameters, or patterns as of file names.
        generator: what random numbers come from, on its device; by default one on the CPU with a seed that follows
            from torch's random state as it is now, which does not move by it.
        dry_run: report, and change nothing.

    Raises:
        ValueError: nothing to set; a scheme, an option, or a model that does not suit it.
    """
    check_model(model)
    chosen, options = read_scheme(scheme)
    if depth is not None:
        check_number("depth", depth, 1, float("inf"), whole=True)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise WrongTypeError(
            f"generator is {generator!r}; expected a torch.Generator, as in Generator().manual_seed(0)."
        )
    if isinstance(loss, str):
        loss = as_function(loss, target)
    check_parameters(model)
    if dry_run:
        model = copy.deepcopy(model)
    generator = _generator(generator, dry_run)
    left = dict(_excluded(model, exclude))
    with _as_it_was_if_refused(model), explained(model, batch):
        seen = _run(model, batch) if batch is not None and chosen.traced else None
        found = [layer for layer in _layers(model, seen, activation, chosen.traced) if layer.name not in left]
        if not found:
            kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
            raise MinimandError(
                f"nothing to initialize in {type(model).__name__}: expected linear, convolutional, attention or "
                f"recurrent layers that are not excluded. Looked at {kinds}."
            )
        parts = find_branches(model, seen, branches)
        if seen is None:
            found = _within_branches(model, found, parts)
        job = Job(model, found, parts, batch, target, loss, depth or len(found), generator, left_alone=left)
        said = chosen(job, options)
        if not job.settings and not job.notes:
            reasons = "; ".join(f"{name}: {why}" for name, why in job.left_alone.items())
            raise MinimandError(f"{scheme} set nothing in {type(model).__name__}. {reasons}.")
        broken = broken_parameters(model)
        if broken:
            raise MinimandError(
                f"{', '.join(broken)} would be left with values that are not finite; expected them to be set: neither "
                "frozen nor excluded."
            )
    done = [replace(s, std_after=deviation(read(model, s.name))) for s in job.settings.values()]
    return InitReport(
        type(model).__name__,
        f"{scheme}: {said}" if said else scheme,
        tuple(done),
        {**job.left_alone, **_others(job)},
        tuple(job.notes),
        dry_run,
        tuple(job.references),
    )


def _run(model: nn.Module, batch: Any) -> Trace:
    with undisturbed(model), torch.no_grad():
        measured(model)
        return trace(model, batch)


def _layers(model: nn.Module, seen: Trace | None, activation: Any, asked: bool) -> Iterator[Layer]:
    """The layers in the order they ran, or else of registration."""
    modules = layers(model)
    calls = {} if seen is None else seen.first
    order = [*calls, *(name for name in modules if name not in calls)]
    given = _given(activation) if activation is not None else None
    if given is None and seen is None and asked and len(order) > 1:
        given = _only_activation(model)
    for i, name in enumerate(order):
        call = calls.get(name)
        if given is not None or call is None:
            first, last = i == 0, i == len(order) - 1
            yield Layer(name, modules[name], None if first else given, None if last else given, first)
        else:
            read_from = list(call.after.values())
            reads = None if None in read_from or not read_from else read_from[-1]
            yield Layer(name, modules[name], reads, call.activation, not read_from)


def _given(activation: Any) -> Applied:
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise unknown_name("activation", activation, ACTIVATIONS)
        return Applied(activation, ACTIVATIONS[activation])
    if isinstance(activation, type) and issubclass(activation, nn.Module):
        activation = activation()
    if not callable(activation):
        raise MinimandError(f"activation is {activation!r}; expected a name or a function of a tensor.")
    name = getattr(activation, "__name__", type(activation).__name__).lower()
    return Applied(name, cast(Callable[[Tensor], Tensor], activation))


def _only_activation(model: nn.Module) -> Applied | None:
    """The activation of all its modules; None for a model of recurrent layers and at most one other."""
    kinds = {repr(module): module for module in model.modules() if _is_activation(module)}
    names = Counter(repr(module).replace("inplace=True", "") for module in kinds.values())
    if len(names) == 1:
        module = copy.deepcopy(next(iter(kinds.values())))
        if hasattr(module, "inplace"):
            module.__dict__["inplace"] = False
        return Applied(type(module).__name__.lower(), module)
    plain = [m for m in layers(model).values() if not isinstance(m, nn.RNNBase | nn.RNNCellBase)]
    if not names and len(plain) < 2:
        return None
    which = f"has several activations, {', '.join(names)}" if names else "has no module that is an activation"
    raise MinimandError(
        f"{type(model).__name__} {which}; say what its layers read by batch=, what the model is called with, or by "
        "activation=."
    )


def _within_branches(model: nn.Module, found: list[Layer], parts: list[Branch]) -> list[Layer]:
    """In a branch, a layer reads the activation only if one is registered between the layer before and it.

    Where none is registered at all, the first layer of a branch reads none: the sum, or a normalization.
    """
    behind: set[str] = set()
    activated = False
    for name, module in model.named_modules():
        activated = activated or _is_activation(module)
        if is_layer(module):
            behind |= {name} if activated else set()
            activated = False
    inside = {name for part in parts for name in part.layers}
    plain = inside - behind if inside & behind else {part.layers[0] for part in parts}
    return [replace(layer, reads=None) if layer.name in plain else layer for layer in found]


def _is_activation(module: nn.Module) -> bool:
    of_torch = type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, _NOT_BY_ENTRY)
    return of_torch or isinstance(module, Threshold)


def _generator(given: torch.Generator | None, dry_run: bool) -> torch.Generator:
    if given is not None and not dry_run:
        return given
    if given is not None:
        return torch.Generator(given.device).set_state(given.get_state())
    # Not the state itself: weights and whatever torch draws next would be the same numbers.
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]))


def _excluded(model: nn.Module, exclude: Iterable[str]) -> Iterator[tuple[str, str]]:
    names = [name for name, _ in (*model.named_modules(), *model.named_parameters()) if name]
    for pattern in [exclude] if isinstance(exclude, str) else exclude:
        found = [n for n in names if n == pattern or n.startswith(f"{pattern}.") or fnmatchcase(n, pattern)]
        if not found:
            raise unknown_name(f"module or parameter of {type(model).__name__} in exclude", pattern, names)
        for name in found:
            yield name, "excluded"


def _others(job: Job) -> dict[str, str]:
    """The parameters that the scheme did not set and nothing has been said of."""
    said = {*job.settings, *job.left_alone}
    rest = {}
    for name, _ in job.model.named_parameters():
        plain = name.replace("parametrizations.", "").rpartition(".original")[0] if ".original" in name else name
        if plain not in said and not any(plain.startswith(f"{prefix}.") for prefix in job.left_alone):
            module = job.model.get_submodule(name.rpartition(".")[0])
            rest[name] = f"part of {type(module).__name__}"
    return rest


@contextmanager
def _as_it_was_if_refused(model: nn.Module) -> Iterator[None]:
    values = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    back = buffers_back(model)
    before = {(module, leaf) for module in model.modules() for leaf in _parametrized(module)}
    parts: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
        (kept, dict(kept)) for module in model.modules() for kept in children_and_hooks(module)
    ]
    try:
        yield
    except BaseException:
        for module in list(model.modules()):
            for leaf in _parametrized(module):
                if (module, leaf) not in before:
                    parametrize.remove_parametrizations(module, leaf, leave_parametrized=False)
        for kept, old in parts:
            kept.clear()
            kept.update(old)
        with torch.no_grad():
            for parameter, value in values:
                parameter.copy_(value)
        back()
        raise


def _parametrized(module: nn.Module) -> list[str]:
    return list(getattr(module, "parametrizations", ())) if parametrize.is_parametrized(module) else []
