"""Weights from timm's models of the same architecture."""

from typing import Any, TypeVar

import torch
from torch import nn

from .._support.errors import MinimandError, WrongTypeError
from .network import UnrolledNetwork

Model = TypeVar("Model", bound=UnrolledNetwork)
_EXPECTED: dict[type, str] = {UnrolledNetwork: "what mm.create_model gives", nn.Module: "a model of timm"}


@torch.no_grad()
def from_timm(model: Model, timm_model: nn.Module) -> Model:
    """Copy the weights of a timm model into one of ours, in place.

    Both hold the same tensors in the same order; the shapes have to agree (a 1 x 1 convolution counts as linear).
    With gradient descent the logits are then the same. Learnable coefficients stay as they are.

    Raises:
        ValueError: another architecture; names the first tensor that does not fit. Nothing is copied then.
    """
    for name, given, kind in (("model", model, UnrolledNetwork), ("timm_model", timm_model, nn.Module)):
        if not isinstance(given, kind):
            raise WrongTypeError(f"{name} is {type(given).__name__}; expected {_EXPECTED[kind]}.")
    ours = {name: value for name, value in model.state_dict().items() if ".coefficients." not in name}
    theirs: dict[str, Any] = timm_model.state_dict()
    for (name, value), (other, given) in zip(ours.items(), theirs.items(), strict=False):
        if _shape(value) != _shape(given):
            raise MinimandError(
                f"{model.info.name} is not the architecture of {type(timm_model).__name__}: {name} has the shape "
                f"{tuple(value.shape)}, timm's {other} {tuple(given.shape)}. num_classes here is {model.num_classes}."
            )
    if len(ours) != len(theirs):
        raise MinimandError(
            f"{model.info.name} is not the architecture of {type(timm_model).__name__}: it has {len(ours)} tensors, "
            f"timm's model {len(theirs)}."
        )
    for value, given in zip(ours.values(), theirs.values(), strict=True):
        value.copy_(given.reshape(value.shape))
    return model


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    return shape[:2] if shape[2:] == (1, 1) else shape
