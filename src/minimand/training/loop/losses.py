"""Losses by name, and the checks of what they are given and return."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ...data import Data, tensor_of
from ...data.batches import first_tensor
from ...data.samples import NO_CLASS
from ...recipes.recipe import Recipe

_OF_SIZES = re.compile(
    r"shape|size|channel|dimension|mat1|must match|should be the same|expected .* input", re.IGNORECASE
)

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of outputs and targets to a scalar: the mean over the batch."""


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error: (N, d) against (N, d) or, for d = 1, (N,)."""
    return F.mse_loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype))


def as_loss(loss: str | Loss | None, data: Data, recipe: Recipe | None = None) -> Loss:
    """The loss of a name or a callable, None for what the task is judged by; it checks what it is given and returns.

    By default that is the model's own where it returns one, as models of transformers do that are given labels.
    """
    chosen = loss or ("cross_entropy" if data.task == "classification" else "mse")
    softened = {part: getattr(recipe, part, 0.0) for part in ("label_smoothing", "mixup", "cutmix")}
    for part, value in softened.items():
        if value and chosen != "cross_entropy":
            shown = repr(chosen) if isinstance(chosen, str) else "a function of your own"
            expected = f"expected 'cross_entropy', or {part}=0"
            raise MinimandError(f"Recipe.{part} is {value}, but the loss is {shown}; {expected}.")
    if chosen == "cross_entropy":
        if data.task != "classification":
            raise MinimandError(f"loss is 'cross_entropy', but {data.name} is a regression; expected 'mse'.")
        chosen = partial(cross_entropy, label_smoothing=softened["label_smoothing"])
    elif chosen == "mse":
        if data.is_text:
            raise MinimandError(f"loss is 'mse', but {data.name} is a text; expected 'cross_entropy'.")
        chosen = one_hot_mse if data.task == "classification" else mse
    elif isinstance(chosen, str):
        raise unknown_name("loss", chosen, ("cross_entropy", "mse"))
    return partial(_checked, chosen, data, loss is None, softened)


def _checked(
    loss: Loss, data: Data, takes_own: bool, softened: Mapping[str, float], outputs: Any, targets: Tensor
) -> Tensor:
    own = getattr(outputs, "loss", None) if takes_own else None
    for part, value in softened.items() if isinstance(own, Tensor) else ():
        if value:  # a cross entropy of ours would not be the model's, which may shift its labels
            raise MinimandError(f"Recipe.{part} is {value}, but the loss is the model's own; expected {part}=0.")
    value = own if isinstance(own, Tensor) else loss(*aligned(tensor_of(outputs), targets, data))
    if not isinstance(value, Tensor) or value.ndim:
        shape = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise WrongTypeError(f"loss returned {shape}; expected a scalar tensor: the mean over the batch.")
    return value


def cross_entropy(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of `aligned` outputs and classes, or shares of classes; of one logit the binary one."""
    if outputs.shape != targets.shape or (outputs.ndim > 1 and outputs.shape[1] > 1):
        if (rows := outputs.movedim(1, -1)).ndim > 2 and rows.is_contiguous() and not targets.is_floating_point():
            outputs, targets = rows.flatten(0, -2), targets.flatten()  # a place a row is faster, and the same mean
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)
    return F.binary_cross_entropy_with_logits(outputs, targets * (1 - label_smoothing) + label_smoothing / 2)


def one_hot_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error against one-hot classes: (N, classes) against (N,); of one output against 0 and 1."""
    same = outputs.shape == targets.shape
    return mse(outputs, targets if same else F.one_hot(targets, outputs.shape[1]).movedim(-1, 1))


def aligned(outputs: Tensor, targets: Tensor, data: Data) -> tuple[Tensor, Tensor]:
    """Outputs and targets in the one shape that every loss gets, so that none broadcasts one against the other.

    Targets of a regression get the shape and the type of the outputs, and so do binary classes where the model has one
    logit. Other classes are (N, ...) for outputs (N, classes, ...); outputs (N, ..., classes) are turned.

    Raises:
        MinimandError: outputs that do not fit the targets or the classes, of which a caller's may not show all.
    """
    n, shape, classes = len(targets), tuple(outputs.shape), len(data.classes)
    if data.is_text:
        return _aligned_tokens(outputs, targets, data)
    if data.task == "regression":
        if _without_ones(shape) == _without_ones(targets.shape):
            return outputs, targets.reshape(shape).to(outputs.dtype)
        raise _misfit(data, n, shape, f"targets of {data.outputs}", tuple(targets.shape))
    shares = targets.is_floating_point()
    if shape in ((n,), (n, 1)) and classes <= 2 and targets.ndim == 1 + shares:
        return outputs, (targets[:, 1] if shares else targets).reshape(shape).to(outputs.dtype)
    places = () if shares else tuple(targets.shape[1:])
    if places and shape[:-1] == (n, *places) and shape[2:] != places:
        outputs = outputs.movedim(-1, 1)
    if (
        (n, *places) != (len(outputs), *outputs.shape[2:])
        or outputs.ndim < 2
        or outputs.shape[1] < classes
        or (outputs.shape[1] > classes and data.loaded)  # where all classes are known, and not only those seen
    ):
        raise _misfit(data, n, shape, f"{classes} classes", (n, classes, *places))
    return outputs, F.pad(targets, (0, outputs.shape[1] - classes)) if shares else targets


def _aligned_tokens(outputs: Tensor, targets: Tensor, data: Data) -> tuple[Tensor, Tensor]:
    """Logits (N, T, tokens) of a language model turned to (N, tokens, T), whatever T is; targets (N, T) as they are."""
    expected = (*targets.shape, data.num_outputs)
    if outputs.shape[:-1] != targets.shape or outputs.shape[-1] < data.num_outputs:
        raise MinimandError(
            f"the model's outputs for {len(targets)} windows have the shape {tuple(outputs.shape)}; {data.name} has "
            f"{data.num_outputs} tokens: expected {expected}, logits of the token that follows at each place."
        )
    return outputs.movedim(-1, 1), targets


def predicted(outputs: Tensor) -> Tensor:
    """The classes that `aligned` outputs say: the highest, or whether the one logit is positive."""
    is_logit = outputs.ndim == 1 or outputs.shape[1] == 1
    return (outputs > 0).long().reshape(len(outputs)) if is_logit else outputs.argmax(1)


def weight_of(y: Tensor, has_own_loss: bool) -> int | Tensor:
    """How much the mean loss of a batch counts: by its samples, or, of a class for each place, by places that have one.

    A model that is given its targets may count other places, so that its batches count by samples.
    """
    is_dense = y.ndim > 1 and not y.is_floating_point() and not has_own_loss
    return (y != NO_CLASS).sum() if is_dense else len(y)


def right_answers(outputs: Tensor, targets: Tensor, data: Data) -> Tensor:
    """The number of samples whose class is right; of dense targets the right share of a sample's places counts."""
    outputs, _ = aligned(outputs, targets, data)
    right = predicted(outputs) == targets
    if targets.ndim == 1:
        return right.sum()
    return right.sum() / (targets != NO_CLASS).sum().clamp(min=1) * len(targets)


@contextmanager
def fitting(model: nn.Module, data: Data, x: Any, y: Tensor) -> Iterator[None]:
    """A context in which an error of torch about sizes names the model, the data and the shapes of a batch."""
    try:
        yield
    except RuntimeError as error:
        if not _OF_SIZES.search(str(error)) or isinstance(error, torch.OutOfMemoryError):
            raise
        first = first_tensor(x)
        shape = f" of the shape {tuple(first.shape)}" if isinstance(first, Tensor) else ""
        raise MinimandError(
            f"{type(model).__name__} does not fit {data.name}: it fails on inputs{shape} with targets of the shape "
            f"{tuple(y.shape)} ({str(error).splitlines()[0]})."
        ) from error


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[:1], *(length for length in shape[1:] if length != 1))


def _misfit(data: Data, n: int, shape: tuple[int, ...], what: str, expected: tuple[int, ...]) -> MinimandError:
    wrong = f"the model's outputs for {n} samples have the shape {shape}"
    more = ""
    if data.task == "classification" and shape in ((n,), (n, 1)):
        more = " Integer targets are classes; targets.float() are those of a regression."
    elif data.task == "classification" and len(data.classes) == 256 and len(expected) > 2:
        more = f" Where 255 means no class, write {NO_CLASS}, which losses ignore."
    return MinimandError(f"{wrong}; {data.name} has {what}: expected {expected}.{more}")
