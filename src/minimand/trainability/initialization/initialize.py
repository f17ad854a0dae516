"""Where training starts: the weights of any model, by a named scheme."""

import copy
import hashlib
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..._support.checks import check_number
from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ..._support.torch.internals import children_and_hooks
from ...networks.kinds import check_model
from ...networks.undisturbed import buffers_back, undisturbed
from ...recipes.parameter_groups import factors_fingerprint
from ..measure import tracing
from ..measure.statistics import LossChoice, as_function
from .report import InitReport
from .scheme import Job, Scheme, SchemeRule, deviation, read_scheme
from .weighted_layers import WeightedLayer, weighted_layers, within_branches
from .weights import read


def initialize(
    model: nn.Module,
    scheme: str | Scheme | SchemeRule = "auto",
    *,
    batch: Any = None,
    target: Any = None,
    loss: LossChoice | None = None,
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
        scheme: a name among `mm.list_schemes()`, with options as in "critical(q=0.5)"; `auto` chooses by the structure.
            Or a function of a `trainability.Job`.
        batch: what the model is called with: a tensor, a tuple of arguments, a mapping of named ones.
        target: what the loss compares the output with, for schemes that follow its gradient.
        loss: "cross_entropy", "mse" or a function of the model's output and the target, for the same schemes.
        activation: what every layer but the first reads, a name or a function, if it is not to be looked for.
        depth: the number of layers that `critical` chooses its point for; by default those of the model.
        branches: names of the modules whose output is added to a skip, if they are not to be looked for.
        exclude: names of modules or parameters, or patterns as of file names.
        generator: what random numbers come from, on its device; by default one on the CPU with a seed that follows
            from torch's random state as it is now, which does not move by it.
        dry_run: report, and change nothing.
    """
    check_model(model)
    chosen, options = read_scheme(scheme)
    if depth is not None:
        check_number("depth", depth, 1, float("inf"), whole=True)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise WrongTypeError(
            f"generator is {generator!r}; expected a torch.Generator, as in Generator().manual_seed(0)."
        )
    loss = as_function(loss, target) if isinstance(loss, str) else loss
    tracing.check_parameters(model)
    model, generator = copy.deepcopy(model) if dry_run else model, _generator(generator, dry_run)
    excluded = dict(_excluded(model, exclude))
    with _as_it_was_if_refused(model), tracing.explained(model, batch):
        layers, parts = _layers_and_branches(model, batch, activation, branches, excluded, chosen.traced)
        job = Job(model, layers, parts, batch, target, loss, depth or len(layers), generator, left_alone=excluded)
        return _report(job, scheme if isinstance(scheme, str) else chosen.name, chosen(job, options), dry_run)


def _layers_and_branches(
    model: nn.Module, batch: Any, activation: Any, declared: Iterable[str], excluded: Container[str], traced: bool
) -> tuple[list[WeightedLayer], list[tracing.Branch]]:
    model_trace = None
    if batch is not None and traced:
        with undisturbed(model), tracing.telling_solutions(model):
            tracing.measured(model)
            model_trace = tracing.trace(model, batch)
    layers = [layer for layer in weighted_layers(model, model_trace, activation, traced) if layer.name not in excluded]
    if not layers:
        kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise MinimandError(
            f"nothing to initialize in {type(model).__name__}: expected linear, convolutional, attention or "
            f"recurrent layers that are not excluded. Looked at {kinds}."
        )
    parts = tracing.branches(model, model_trace, declared)
    return within_branches(model, layers, parts) if model_trace is None else layers, parts


def _report(job: Job, title: str, remark: str | None, dry_run: bool) -> InitReport:
    """The report of a job that is done; an error where nothing was set, or something is not finite."""
    model = type(job.model).__name__
    if not job.settings and not job.notes:
        reasons = "; ".join(f"{name}: {why}" for name, why in job.left_alone.items())
        raise MinimandError(f"{title} set nothing in {model}. {reasons}.")
    broken = tracing.broken_parameters(job.model)
    if broken:
        raise MinimandError(
            f"{', '.join(broken)} would be left with values that are not finite; expected them to be set: neither "
            "frozen nor excluded."
        )
    if not job.sets_rates and factors_fingerprint(job.model) is not None:
        job.notes.append("Learning rates stay those of the scaling rule that was set before; mm.prepare sets both.")
    settings = tuple(replace(s, std_after=deviation(read(job.model, s.name))) for s in job.settings.values())
    title = f"{title}: {remark}" if remark else title
    left_alone = {**job.left_alone, **_unmentioned(job)}
    return InitReport(model, title, settings, left_alone, tuple(job.notes), dry_run, tuple(job.references))


def _generator(generator: torch.Generator | None, dry_run: bool) -> torch.Generator:
    if generator is not None:
        return torch.Generator(generator.device).set_state(generator.get_state()) if dry_run else generator
    # Not the state itself: weights and whatever torch draws next would be the same numbers.
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]))


def _excluded(model: nn.Module, exclude: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The names of the modules and parameters that patterns exclude, each with the reason."""
    names = [name for name, _ in (*model.named_modules(), *model.named_parameters()) if name]
    for pattern in [exclude] if isinstance(exclude, str) else exclude:
        matching = [n for n in names if n == pattern or n.startswith(f"{pattern}.") or fnmatchcase(n, pattern)]
        if not matching:
            raise unknown_name(f"module or parameter of {type(model).__name__} in exclude", pattern, names)
        for name in matching:
            yield name, "excluded"


def _unmentioned(job: Job) -> dict[str, str]:
    """The parameters that the scheme did not set and nothing has been said of, each with what it is part of."""
    mentioned = {*job.settings, *job.left_alone}
    reasons = {}
    for name, _ in job.model.named_parameters():
        plain = name.replace("parametrizations.", "").rpartition(".original")[0] if ".original" in name else name
        if plain not in mentioned and not any(plain.startswith(f"{prefix}.") for prefix in job.left_alone):
            module = job.model.get_submodule(name.rpartition(".")[0])
            reasons[name] = f"part of {type(module).__name__}"
    return reasons


@contextmanager
def _as_it_was_if_refused(model: nn.Module) -> Iterator[None]:
    """Put back parameters, buffers, parametrizations, children and hooks of a model if an error is raised."""
    values = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    put_buffers_back = buffers_back(model)
    before = {(module, leaf) for module in model.modules() for leaf in _parametrized(module)}
    tables = [(table, dict(table)) for module in model.modules() for table in children_and_hooks(module)]
    try:
        yield
    except BaseException:
        for module in list(model.modules()):
            for leaf in _parametrized(module):
                if (module, leaf) not in before:
                    parametrize.remove_parametrizations(module, leaf, leave_parametrized=False)
        for table, entries in tables:
            table.clear()
            table.update(entries)
        with torch.no_grad():
            for parameter, value in values:
                parameter.copy_(value)
        put_buffers_back()
        raise


def _parametrized(module: nn.Module) -> list[str]:
    return list(getattr(module, "parametrizations", ())) if parametrize.is_parametrized(module) else []
