"""Weights from timm's models of the same architecture."""

from typing import Any, TypeVar

import torch
from torch import nn

from .._support.errors import MinimandError, WrongTypeError
from .network import UnrolledNetwork

Model = TypeVar("Model", bound=UnrolledNetwork)


@torch.no_grad()
def from_timm(model: Model, timm_model: nn.Module) -> Model:
    """Copy the weights of a timm model into one of ours, in place.

    Both models hold the same tensors in the same order, of the same shapes (a 1 x 1 convolution counts as linear).
    With gradient descent the logits are then the same. Learnable coefficients stay as they are.

    Raises:
        MinimandError: another architecture; names the first tensor that does not fit. Nothing is copied then.
    """
    if not isinstance(model, UnrolledNetwork):
        raise WrongTypeError(f"model is {type(model).__name__}; expected an mm.UnrolledNetwork of mm.create_model.")
    if not isinstance(timm_model, nn.Module):
        raise WrongTypeError(f"timm_model is {type(timm_model).__name__}; expected a model of timm.")
    ours = {name: value for name, value in model.state_dict().items() if ".coefficients." not in name}
    theirs: dict[str, Any] = timm_model.state_dict()
    for (name, value), (their_name, their_value) in zip(ours.items(), theirs.items(), strict=False):
        if _shape(value) != _shape(their_value):
            raise MinimandError(
                f"{model.info.name} is not the architecture of {type(timm_model).__name__}: {name} has the shape "
                f"{tuple(value.shape)}, timm's {their_name} {tuple(their_value.shape)}. "
                f"num_classes here is {model.num_classes}."
            )
    if len(ours) != len(theirs):
        raise MinimandError(
            f"{model.info.name} is not the architecture of {type(timm_model).__name__}: it has {len(ours)} tensors, "
            f"timm's model {len(theirs)}."
        )
    for value, their_value in zip(ours.values(), theirs.values(), strict=True):
        value.copy_(their_value.reshape(value.shape))
    return model


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    return shape[:2] if shape[2:] == (1, 1) else shape
