"""Gradient clipping: by the norm of all gradients, or unit by unit (Brock et al. 2021)."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.torch.internals import ConvNd
from ..loop.training import Training
from ..methods.deep_supervision import Supervised
from ..methods.local.partition import Block
from .hook import HOOKS, Hook
from .watching.nonfinite import NonFiniteHook

# Norms of weights below this count as this: else weights of 0 could never leave it.
_LEAST_NORM = 1e-3


@HOOKS.register("clipping")
class ClippingHook(Hook):
    """Clips gradients before each update (`Recipe.clip`, `Recipe.adaptive_clip`)."""

    @classmethod
    def is_wanted(cls, training: Training) -> bool:
        is_wanted = bool(training.recipe.clip or training.recipe.adaptive_clip)
        if is_wanted and training.world.pipeline_stages > 1:
            raise MinimandError(
                "Recipe.clip and adaptive_clip look at a whole network, not at a rank's part; expected 0."
            )
        return is_wanted

    def change_gradients(self, value: float, measured: list[float]) -> None:
        recipe, trained = self.training.recipe, self.training.problem.trained
        if recipe.clip:
            norm = cast(NonFiniteHook, self.training.hooks["nonfinite"]).norm
            # The norm is of all that is optimized, parameters of the loss too.
            groups = self.training.optimizer.param_groups
            nn.utils.clip_grads_with_norm_([p for group in groups for p in group["params"]], recipe.clip, norm)
        else:
            clip_adaptively(trained, recipe.adaptive_clip, _with_final_layers(trained))


@torch.no_grad()
def clip_adaptively(model: nn.Module, ratio: float, classifiers: Sequence[nn.Module] = ()) -> None:
    """Scale the gradient of each unit down to `ratio` times the norm of the unit's weights, in place.

    A unit is a row of a linear layer, a filter of a convolution; of a vector, a bias or a scale, the whole. The final
    layer is left: what `get_classifier` names, as in our models and timm's, else the last linear or convolutional one;
    of `classifiers` in the model that of each.
    """
    final = {p for part in classifiers or (model,) for p in _final_layer(part).parameters()}
    for p in model.parameters():
        if p.grad is None or p in final:
            continue
        bound = ratio * _unit_norms(p).clamp_min(_LEAST_NORM)
        p.grad.mul_((bound / _unit_norms(p.grad).clamp_min(1e-12)).clamp_max(1))


def _with_final_layers(trained: nn.Module) -> list[nn.Module]:
    """The modules with a final layer in what a method trains: a model, or blocks with heads of their own."""
    if isinstance(trained, Supervised):
        return [trained.model, *trained.heads]
    return [part.head for part in trained.modules() if isinstance(part, Block)] or [trained]


def _unit_norms(x: Tensor) -> Tensor:
    return x.norm() if x.ndim < 2 else torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def _final_layer(model: nn.Module) -> nn.Module:
    classifier = getattr(model, "get_classifier", None)
    final = classifier() if callable(classifier) else None
    if isinstance(final, nn.Module) and any(True for _ in final.parameters()):
        return final
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | ConvNd)]
    return layers[-1] if layers else nn.Identity()
