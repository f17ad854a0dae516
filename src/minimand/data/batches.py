"""What a batch may be: inputs that are a tensor, several ones or a dictionary, with targets that are a tensor."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from .._support.errors import WrongTypeError

Batch = tuple[Any, Tensor]
"""Inputs with targets. Inputs are a tensor, a tuple of tensors, or a dictionary of tensors by argument."""
LABELS = "labels"
"""The entry of a dictionary that holds its targets, as transformers has it."""
PAIRS = (
    "a pair (inputs, targets), inputs a tensor, a tuple of tensors or a dictionary of them; or a dictionary that has "
    "'labels'"
)


def as_batch(batch: Any) -> Batch:
    """Inputs and targets of a batch that a loader gave; raises WrongTypeError for one that is neither pair nor mapping.

    A mapping is its own input, targets included, as models of transformers know what to do with their labels.
    """
    if isinstance(batch, Mapping):
        names = {**batch}
        targets = names.pop(LABELS, names.pop("label", None))
        inputs: Any = {**names, LABELS: targets}
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, targets = batch
        inputs = dict(inputs) if isinstance(inputs, Mapping) else tuple(inputs) if isinstance(inputs, list) else inputs
    else:
        number = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise WrongTypeError(f"a batch is {type(batch).__name__}{number}; expected {PAIRS}.")
    named = inputs if isinstance(inputs, dict) else dict(enumerate(inputs if isinstance(inputs, tuple) else [inputs]))
    for name, value in [*named.items(), ("targets", targets)]:
        if not isinstance(value, Tensor):
            names = f" of {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else ""
            wrong = "has no 'labels'" if value is None else f"has a {type(value).__name__} as {name!r}, no tensor"
            raise WrongTypeError(f"a batch, {type(batch).__name__}{names}, {wrong}; expected {PAIRS}.")
    return inputs, targets


def each(function: Callable[[Any], Any], inputs: Any) -> Any:
    """A function of every tensor of the inputs of a batch."""
    if isinstance(inputs, dict):
        return {name: function(value) for name, value in inputs.items()}
    return tuple(function(value) for value in inputs) if isinstance(inputs, tuple) else function(inputs)


def first_tensor(inputs: Any) -> Any:
    """The first tensor of the inputs of a batch."""
    return (
        next(iter(inputs.values())) if isinstance(inputs, dict) else inputs[0] if isinstance(inputs, tuple) else inputs
    )


def call(model: nn.Module, inputs: Any) -> Any:
    """The outputs of a model for the inputs of a batch: several are its arguments, a dictionary those by name."""
    if isinstance(inputs, dict):
        if LABELS in inputs and not _takes(model, LABELS):
            inputs = {name: value for name, value in inputs.items() if name != LABELS}
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def tensor_of(outputs: Any) -> Tensor:
    """The tensor that a loss judges among a model's outputs: themselves, or their `logits` or `out`.

    Raises:
        WrongTypeError: outputs without such a tensor.
    """
    if isinstance(outputs, Tensor):
        return outputs
    for name in ("logits", "out"):  # those of transformers, and torchvision's of segmentation
        value = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(value, Tensor):
            return value
    raise WrongTypeError(
        f"the model returns {type(outputs).__name__}; expected a tensor, or an object whose `logits` are one."
    )


def _takes(model: nn.Module, name: str) -> bool:
    """Whether a model, perhaps wrapped for several processes or compiled, has an argument of a name."""
    for wrapper in ("module", "_orig_mod"):
        inner = getattr(model, wrapper, None)
        if isinstance(inner, nn.Module):
            return _takes(inner, name)
    parameters = inspect.signature(model.forward).parameters.values()
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)
