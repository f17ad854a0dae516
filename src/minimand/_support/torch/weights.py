"""Weights that a model is given: whether they are those of such a model, and which tensor says that they are not."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import MinimandError


class OtherWeightsError(MinimandError, RuntimeError):
    """Weights of another model than the one that they are given to."""


def mismatch(model: nn.Module, tensors: Mapping[str, Tensor], strict: bool = True) -> tuple[str, str] | None:
    """The first tensor that is another model's: its name, and how it differs; None where all fit.

    Names that are on one side alone count where `strict`; so do tensors that the model ties to one and that differ.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        mine, theirs = own.get(name), tensors.get(name)
        if mine is None or theirs is None:
            if not strict:
                continue
        elif not isinstance(mine, Tensor) or not isinstance(theirs, Tensor) or mine.shape == theirs.shape:
            continue
        shown = ["missing" if t is None else str(tuple(t.shape)) for t in (mine, theirs)]
        return name, f"{name} is {shown[0]} here and {shown[1]} there"
    tied: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in tensors:
            tied[parameter].append(name)
    for first, *others in tied.values():
        for name in others:
            if tensors[name] is not tensors[first] and not torch.equal(tensors[name], tensors[first]):
                return name, f"{first} and {name} are one parameter here, and two there"
    return None
