"""What to do to a network, and how to train it, so that its depth is no obstacle: recipes by name."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .._support.errors import MinimandError, unknown_name
from ..networks.kinds import NORMALIZATIONS
from ..recipes.optimizers import SGD, AdamW
from ..recipes.recipe import Recipe
from ..recipes.schedules import Cosine, StepDecay
from ..surgery.normalize import normalize
from .diagnosis.diagnose import TrainabilityReport, diagnose
from .initialization.initialize import initialize
from .initialization.report import InitReport


@dataclass(frozen=True)
class Prepared:
    """A prepared model's recipe, and what was done to it."""

    recipe: Recipe
    done: tuple[InitReport | TrainabilityReport, ...]

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.done), str(self.recipe)])


def prepare(model: nn.Module, kind: str, batch: Any, epochs: int = 10) -> Prepared:
    """Set the weights of a model, in place, and say how it is then trained: `mm.fit(model, data, recipe=....recipe)`.

    - `"deep_tanh"`: plain networks of tanh and its kin, orthogonal at the edge of chaos with q = 1 / depth.
    - `"deep_gelu"`: plain networks of GELU, SiLU or Mish, at the half-stable point.
    - `"plain_cnn"`: plain convolutional networks, delta-orthogonal at the edge of chaos.
    - `"residual_norm"`: residual networks with normalization, Kaiming's weights by fan-out, the last scale of each
      branch 0.
    - `"residual_nonorm"`: the same without normalization, which is taken out: Fixup, its factors at a tenth of
      the rate.
    - `"normalizer_free"`: the same with SkipInit and adaptive clipping of gradients.
    - `"transformer"`: what normalizes first gets branches scaled by depth and a warm-up; nn.TransformerEncoder that
      normalizes after the sum DeepNorm, and torch's transformers that do not T-Fixup, both without warm-up.
    - `"recurrent"`: orthogonal for each gate, forget bias 1, gradients clipped.
    - `"rescue"`: what `mm.diagnose` says repairs it, and a small learning rate.

    Weights come from `mm.initialize`, whose sources are cited there. Learning rates are moderate ones that the studies
    of this package met, except for transformers and recurrent networks, where they are usual ones; tune them.

    Args:
        model: any module that suits.
        kind: one of these names.
        batch: what the model is called with.
        epochs: how long it is to be trained.

    Raises:
        ValueError: unknown kind, a model that does not suit it, or, for "rescue", one that no call repairs.
    """
    if kind not in KINDS:
        raise unknown_name("kind of prepare", kind, KINDS)
    return KINDS[kind](model, batch, epochs)


def _deep(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    return Prepared(_gentle(epochs), (initialize(model, "critical", batch=batch),))


def _plain_cnn(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    done = initialize(model, "critical", batch=batch)
    if not any("delta" in setting.rule for setting in done.settings):
        raise MinimandError(
            f"{type(model).__name__} has no convolution of stride 1 and odd kernel that could be delta-orthogonal; "
            "expected a plain convolutional network. For others there is 'deep_tanh'."
        )
    return Prepared(_gentle(epochs), (done,))


def _gentle(epochs: int) -> Recipe:
    return Recipe(epochs, 64, SGD(1e-3, weight_decay=0.0), StepDecay(at=()))


def _residual_norm(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    silenced = initialize(model, "skipinit", batch=batch)
    return Prepared(Recipe(epochs), (silenced, initialize(model, "kaiming(mode='fan_out')", batch=batch)))


def _residual_nonorm(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    recipe = Recipe(epochs, 64, SGD(0.03), Cosine(), scalars=0.1)
    return Prepared(recipe, (_without_norms(model, batch, "fixup"),))


def _normalizer_free(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    recipe = Recipe(epochs, 64, SGD(0.03), Cosine(), adaptive_clip=0.01)
    return Prepared(recipe, (_without_norms(model, batch, "skipinit"),))


def _transformer(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    parts = [m for m in model.modules() if isinstance(m, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer)]
    normalized = any(isinstance(m, NORMALIZATIONS) for m in model.modules())
    after = bool(parts) and not any(part.norm_first for part in parts)
    scheme = "tfixup" if parts and not normalized else "deepnorm" if after else "depth"
    schedule = Cosine(warmup=0.1 if scheme == "depth" else 0.0)
    recipe = Recipe(epochs, 64, AdamW(5e-4), schedule, clip=1.0)
    return Prepared(recipe, (initialize(model, scheme, batch=batch),))


def _recurrent(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    recipe = Recipe(epochs, 64, AdamW(2e-3, weight_decay=0.0), Cosine(), clip=1.0)
    return Prepared(recipe, (initialize(model, "auto", batch=batch),))


def _rescue(model: nn.Module, batch: Any, epochs: int) -> Prepared:
    before = diagnose(model, batch)
    if before.verdict.remedy is not None:
        before.verdict.remedy.apply(model, batch)
    recipe = Recipe(epochs, 64, SGD(1e-3), Cosine(), clip=1.0)
    return Prepared(recipe, (before, diagnose(model, batch)))


def _without_norms(model: nn.Module, batch: Any, scheme: str) -> InitReport:
    # First on a copy, so that a model that the scheme refuses keeps its normalization.
    for target in (copy.deepcopy(model), model):
        if any(isinstance(module, NORMALIZATIONS) for module in target.modules()):
            normalize(target, "none")
        done = initialize(target, scheme, batch=batch)
    return done


KINDS: dict[str, Callable[[nn.Module, Any, int], Prepared]] = {
    "deep_tanh": _deep,
    "deep_gelu": _deep,
    "plain_cnn": _plain_cnn,
    "residual_norm": _residual_norm,
    "residual_nonorm": _residual_nonorm,
    "normalizer_free": _normalizer_free,
    "transformer": _transformer,
    "recurrent": _recurrent,
    "rescue": _rescue,
}
