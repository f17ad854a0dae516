"""Adaptive gradient clipping (Brock et al. 2021)."""

import torch
from torch import Tensor, nn

from ..._support.torch_internals import ConvNd

# Norms of weights below this count as this: else weights of 0 could never leave it.
_LEAST_NORM = 1e-3


@torch.no_grad()
def clip_adaptively(model: nn.Module, ratio: float) -> None:
    """Scale the gradient of each unit down to `ratio` times the norm of the unit's weights, in place.

    A unit is a row of a linear layer, a filter of a convolution; of a vector, a bias or a scale, the whole. The final
    layer is left: what `get_classifier` names, as in our models and timm's, else the last linear or convolutional one.
    """
    final = set(_final_layer(model).parameters())
    for p in model.parameters():
        if p.grad is None or p in final:
            continue
        bound = ratio * _unit_norms(p).clamp_min(_LEAST_NORM)
        p.grad.mul_((bound / _unit_norms(p.grad).clamp_min(1e-12)).clamp_max(1))


def _unit_norms(x: Tensor) -> Tensor:
    return x.norm() if x.ndim < 2 else torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def _final_layer(model: nn.Module) -> nn.Module:
    classifier = getattr(model, "get_classifier", None)
    found = classifier() if callable(classifier) else None
    if isinstance(found, nn.Module) and any(True for _ in found.parameters()):
        return found
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | ConvNd)]
    return layers[-1] if layers else nn.Identity()
