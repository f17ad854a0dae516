"""Preparations: weights of a network and the recipe that goes with them, so that depth is no obstacle."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from .._support.checks import check_choice, check_number
from .._support.errors import MinimandError, unknown_name
from .._support.names.calls import call_with, parse_call
from ..networks.kinds import check_model, has_normalization
from ..recipes.optimizers import EPSILON, SGD, AdamW
from ..recipes.parameter_groups import UpdateRule, parameter_groups, set_factors, trainable_parameters
from ..recipes.recipe import Recipe
from ..recipes.schedules import Cosine, StepDecay
from ..surgery.normalize import normalize
from .diagnosis.diagnose import TrainabilityReport, diagnose
from .initialization.initialize import initialize
from .initialization.report import InitReport
from .initialization.scheme import SCHEMES, Job, Scheme, SchemeRule
from .scaling.parametrize import parametrize_model
from .scaling.rules import DepthRule


@dataclass(frozen=True)
class Prepared:
    """The recipe of a prepared model, and the reports of what was done to it."""

    model: nn.Module
    recipe: Recipe
    reports: tuple[InitReport | TrainabilityReport, ...]

    def parameter_groups(self, lr: float, rule: UpdateRule = "adam", weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """The trainable parameters in groups with their own `lr` and `weight_decay`, for any optimizer of torch.

        `rule` is how that optimizer moves a parameter: "sgd" along its gradient, "adam" by steps of a set size for each
        entry (the groups then have `eps`), "muon" for whole matrices. Weight decay is for optimizers that shrink
        weights by it, as `torch.optim.AdamW` does and `torch.optim.Adam` does not. A scheduler has to multiply the
        rates: one that sets them undoes the groups.
        """
        check_number("lr", lr, 0, math.inf)
        check_choice("rule", rule, UpdateRule)
        check_number("weight_decay", weight_decay, 0, math.inf)
        epsilon = EPSILON if rule == "adam" else None
        groups = parameter_groups(trainable_parameters(self.model), weight_decay, rule=rule, epsilon=epsilon)
        return [{**group, "lr": lr * group.pop("share")} for group in groups if group["params"]]

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.reports), str(self.recipe)])


def prepare(model: nn.Module, kind: str, batch: Any, epochs: int = 10, base: nn.Module | None = None) -> Prepared:
    """Set the weights of a model, in place, and say how it is then trained: `mm.fit(model, data, recipe=....recipe)`.

    Weights come from `mm.initialize`, whose sources are cited there. Learning rates are moderate ones that the studies
    of this package met, except for transformers and recurrent networks, where they are usual ones; tune them.

    Args:
        model: any module that suits; others are refused, and by "rescue" those that no call repairs.
        kind: a name among `mm.trainability.list_preparations()`, with options if it has some, such as
            "residual_nonorm" or "complete_p(rule='diverse')".
        batch: what the model is called with.
        epochs: how long it is to be trained.
        base: for "mup" and "complete_p" the network in which rates were tuned, of the same family in another size; by
            default rates are those of layers of 64 channels and of one branch of gain 1.
    """
    name, options = parse_call(kind, "kind of prepare")
    if name not in PREPARATIONS:
        raise unknown_name("kind of prepare", name, PREPARATIONS)
    if base is not None:
        check_model(base, "base")
        if name not in (kind.__name__ for kind in _SCALED):
            raise MinimandError(f"base goes with 'mup' and 'complete_p', and kind is {kind!r}; expected none.")
        options["base"] = base
    prepared = call_with(partial(PREPARATIONS[name], model, batch, epochs), options, f"the kind {name}")
    if PREPARATIONS[name] not in _SCALED:
        set_factors(model, {})  # rates of a scaling rule before would not be those of this recipe
    return prepared


def list_preparations() -> dict[str, str]:
    """A line about each kind of `prepare`, by name."""
    return {name: (function.__doc__ or "").partition("\n")[0] for name, function in PREPARATIONS.items()}


def deep_tanh(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Plain networks of tanh and its kin: orthogonal at the edge of chaos with q = 1 / depth."""
    return Prepared(model, _gentle(epochs), (initialize(model, "critical", batch=batch),))


def deep_gelu(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Plain networks of GELU, SiLU or Mish: orthogonal at the half-stable point."""
    return deep_tanh(model, batch, epochs)


def plain_cnn(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Plain convolutional networks: delta-orthogonal at the edge of chaos."""
    report = initialize(model, "critical", batch=batch)
    if not any("delta" in setting.rule for setting in report.settings):
        raise MinimandError(
            f"{type(model).__name__} has no convolution of stride 1 and odd kernel that could be delta-orthogonal; "
            "expected a plain convolutional network. For others there is 'deep_tanh'."
        )
    return Prepared(model, _gentle(epochs), (report,))


def residual_norm(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Residual networks with normalization: Kaiming's weights by fan-out, the last scale of each branch 0."""
    silenced = initialize(model, "skipinit", batch=batch)
    return Prepared(model, Recipe(epochs), (silenced, initialize(model, "kaiming(mode='fan_out')", batch=batch)))


def residual_nonorm(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Residual networks whose normalization is taken out: Fixup, its factors at a tenth of the rate."""
    report = _without_norms(model, batch, "fixup")
    return Prepared(model, Recipe(epochs, 64, SGD(0.03), Cosine(), scalars=0.1), (report,))


def normalizer_free(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Residual networks whose normalization is taken out: SkipInit and adaptive clipping of gradients."""
    recipe = Recipe(epochs, 64, SGD(0.03), Cosine(), adaptive_clip=0.01)
    return Prepared(model, recipe, (_without_norms(model, batch, "skipinit"),))


def transformer(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Transformers: branches scaled by depth and a warm-up; DeepNorm or T-Fixup without warm-up."""
    # T-Fixup for torch's own without normalization, DeepNorm for those that normalize after the sum.
    parts = [m for m in model.modules() if isinstance(m, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer)]
    scheme = "depth"
    if parts and not has_normalization(model):
        scheme = "tfixup"
    elif parts and not any(part.norm_first for part in parts):
        scheme = "deepnorm"
    recipe = Recipe(epochs, 64, AdamW(5e-4), Cosine(warmup=0.1 if scheme == "depth" else 0.0), clip=1.0)
    return Prepared(model, recipe, (initialize(model, scheme, batch=batch),))


def recurrent(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Recurrent networks: orthogonal for each gate, forget bias 1, gradients clipped."""
    recipe = Recipe(epochs, 64, AdamW(2e-3, weight_decay=0.0), Cosine(), clip=1.0)
    return Prepared(model, recipe, (initialize(model, "auto", batch=batch),))


def rescue(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Any network that does not train: what `mm.diagnose` says repairs it, and the optimizer and rate made for that."""
    before, optimizer = diagnose(model, batch), None
    if before.verdict.remedy is not None:
        before.verdict.remedy.apply(model, batch)
        optimizer = before.verdict.remedy.optimizer
    recipe = Recipe(epochs, 64, optimizer or SGD(1e-3), Cosine(), clip=1.0)
    return Prepared(model, recipe, (before, diagnose(model, batch)))


def mup(model: nn.Module, batch: Any, epochs: int, base: nn.Module | None = None) -> Prepared:
    """Any network: rates that carry over to any width (muP)."""
    return _scaled(model, batch, epochs, "mup", lambda job: parametrize_model(job, None, base))


def complete_p(
    model: nn.Module, batch: Any, epochs: int, base: nn.Module | None = None, rule: DepthRule = "complete"
) -> Prepared:
    """Residual networks: one rate for any width, depth and skeleton (CompleteP, by the skeleton's gains)."""
    check_choice("rule", rule, DepthRule)

    def parametrize(job: Job) -> None:
        job.need("branches", "complete_p")
        parametrize_model(job, rule, base)

    return _scaled(model, batch, epochs, "complete_p", parametrize)


def _scaled(model: nn.Module, batch: Any, epochs: int, name: str, rule: SchemeRule) -> Prepared:
    scheme = Scheme(name, rule, references=SCHEMES[name].references)
    recipe = Recipe(epochs, 64, AdamW(4e-3, betas=(0.9, 0.95), weight_decay=0.0), Cosine(warmup=0.1))
    return Prepared(model, recipe, (initialize(model, scheme, batch=batch),))


def _gentle(epochs: int) -> Recipe:
    return Recipe(epochs, 64, SGD(1e-3, weight_decay=0.0), StepDecay(at=()))


def _without_norms(model: nn.Module, batch: Any, scheme: str) -> InitReport:
    # First on a copy, so that a model that the scheme refuses keeps its normalization.
    for target in (copy.deepcopy(model), model):
        if has_normalization(target):
            normalize(target, "none")
        report = initialize(target, scheme, batch=batch)
    return report


_OF_RESIDUAL_NETWORKS = (residual_norm, residual_nonorm, normalizer_free)
_SCALED = (mup, complete_p)
_KINDS = (deep_tanh, deep_gelu, plain_cnn, *_OF_RESIDUAL_NETWORKS, transformer, recurrent, rescue, *_SCALED)
PREPARATIONS: dict[str, Callable[..., Prepared]] = {kind.__name__: kind for kind in _KINDS}
"""The kinds of `prepare` by name: functions of a model, an example batch and the number of epochs."""
