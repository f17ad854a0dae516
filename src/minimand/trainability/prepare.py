"""Preparations: weights of a network and the recipe that goes with them, so that depth is no obstacle."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .._support.errors import MinimandError, unknown_name
from ..networks.kinds import has_normalization
from ..recipes.optimizers import SGD, AdamW
from ..recipes.recipe import Recipe
from ..recipes.schedules import Cosine, StepDecay
from ..surgery.normalize import normalize
from .diagnosis.diagnose import TrainabilityReport, diagnose
from .initialization.initialize import initialize
from .initialization.report import InitReport


@dataclass(frozen=True)
class Prepared:
    """The recipe of a prepared model, and the reports of what was done to it."""

    recipe: Recipe
    reports: tuple[InitReport | TrainabilityReport, ...]

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.reports), str(self.recipe)])


def prepare(model: nn.Module, kind: str, batch: Any, epochs: int = 10) -> Prepared:
    """Set the weights of a model, in place, and say how it is then trained: `mm.fit(model, data, recipe=....recipe)`.

    Weights come from `mm.initialize`, whose sources are cited there. Learning rates are moderate ones that the studies
    of this package met, except for transformers and recurrent networks, where they are usual ones; tune them.

    Args:
        model: any module that suits; others are refused, and by "rescue" those that no call repairs.
        kind: a name among `mm.trainability.list_preparations()`, such as "residual_nonorm".
        batch: what the model is called with.
        epochs: how long it is to be trained.
    """
    if kind not in PREPARATIONS:
        raise unknown_name("kind of prepare", kind, PREPARATIONS)
    return PREPARATIONS[kind](model, batch, epochs)


def list_preparations() -> dict[str, str]:
    """A line about each kind of `prepare`, by name."""
    return {name: (function.__doc__ or "").partition("\n")[0] for name, function in PREPARATIONS.items()}


def deep_tanh(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Plain networks of tanh and its kin: orthogonal at the edge of chaos with q = 1 / depth."""
    return Prepared(_gentle(epochs), (initialize(model, "critical", batch=batch),))


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
    return Prepared(_gentle(epochs), (report,))


def residual_norm(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Residual networks with normalization: Kaiming's weights by fan-out, the last scale of each branch 0."""
    silenced = initialize(model, "skipinit", batch=batch)
    return Prepared(Recipe(epochs), (silenced, initialize(model, "kaiming(mode='fan_out')", batch=batch)))


def residual_nonorm(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Residual networks whose normalization is taken out: Fixup, its factors at a tenth of the rate."""
    report = _without_norms(model, batch, "fixup")
    return Prepared(Recipe(epochs, 64, SGD(0.03), Cosine(), scalars=0.1), (report,))


def normalizer_free(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Residual networks whose normalization is taken out: SkipInit and adaptive clipping of gradients."""
    recipe = Recipe(epochs, 64, SGD(0.03), Cosine(), adaptive_clip=0.01)
    return Prepared(recipe, (_without_norms(model, batch, "skipinit"),))


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
    return Prepared(recipe, (initialize(model, scheme, batch=batch),))


def recurrent(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Recurrent networks: orthogonal for each gate, forget bias 1, gradients clipped."""
    recipe = Recipe(epochs, 64, AdamW(2e-3, weight_decay=0.0), Cosine(), clip=1.0)
    return Prepared(recipe, (initialize(model, "auto", batch=batch),))


def rescue(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    """Any network that does not train: what `mm.diagnose` says repairs it, and a small learning rate."""
    before = diagnose(model, batch)
    if before.verdict.remedy is not None:
        before.verdict.remedy.apply(model, batch)
    recipe = Recipe(epochs, 64, SGD(1e-3), Cosine(), clip=1.0)
    return Prepared(recipe, (before, diagnose(model, batch)))


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
_KINDS = (deep_tanh, deep_gelu, plain_cnn, *_OF_RESIDUAL_NETWORKS, transformer, recurrent, rescue)
PREPARATIONS: dict[str, Callable[[nn.Module, Any, int], Prepared]] = {kind.__name__: kind for kind in _KINDS}
"""The kinds of `prepare` by name: functions of a model, an example batch and the number of epochs."""
