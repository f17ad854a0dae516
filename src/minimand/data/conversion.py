"""Whatever a caller has, as `Data`."""

from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._support.errors import MinimandError, WrongTypeError
from .data import Data
from .registry import load_data
from .samples import Arrays, Items, Loader, Samples

_PAIR = "a pair (inputs, targets) of tensors, a data set of such pairs, or a loader of batches"


def as_data(value: Any) -> Data:
    """The data that `value` stands for.

    Args:
        value: a `Data`, a name (see `load_data`), or a pair (train, test), each (inputs, targets) as tensors or numpy
            arrays, a data set of (input, target) pairs, or a loader of batches. Inputs are (N, ...). Integer
            targets (N,) are classes counted from 0; floating-point ones, (N,) or (N, outputs), are a regression.

    Raises:
        WrongTypeError, MinimandError: something else; names the part, what it holds and what works.
    """
    if isinstance(value, Data):
        _check_range(value)
        return value
    if isinstance(value, str):
        return load_data(value)
    if not (isinstance(value, tuple | list) and len(value) == 2):
        raise WrongTypeError(f"data is {type(value).__name__}; expected a name, an mm.Data, or a pair (train, test).")
    parts = [_as_samples(part, which) for part, which in zip(value, ("train", "test"), strict=True)]
    (inputs, targets), (test_inputs, test_targets) = map(_first_batch, parts, ("train", "test"))
    shape, test_shape = tuple(inputs.shape[1:]), tuple(test_inputs.shape[1:])
    if test_shape != shape:
        raise MinimandError(f"a sample has the shape {shape} in train and {test_shape} in test; expected the same.")
    if test_targets.is_floating_point() != targets.is_floating_point():
        raise MinimandError(f"the targets are {targets.dtype} in train and {test_targets.dtype} in test; expected one.")
    train, test = parts
    if targets.is_floating_point():
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        return Data("given", train, test, shape, "regression", outputs=outputs, source="the caller")
    classes = tuple(str(i) for i in range(_highest_class(train) + 1))
    data = Data("given", train, test, shape, classes=classes, source="the caller")
    _check_range(data)
    return data


def _check_range(data: Data) -> None:
    """Check the classes of samples in memory; of other samples each batch is checked when it comes."""
    for samples in (data.train, data.test):
        if isinstance(samples, Arrays) and data.task == "classification":
            data.check_classes(samples.targets)


def _as_samples(part: Any, which: str) -> Samples:
    if isinstance(part, tuple | list) and len(part) == 2 and all(isinstance(t, Tensor | np.ndarray) for t in part):
        inputs, targets = map(torch.as_tensor, part)
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise MinimandError(
                f"{which} has {len(inputs)} inputs with {len(targets)} targets; expected as many of both."
            )
        return Arrays(inputs, targets if targets.is_floating_point() else targets.long())
    if isinstance(part, Arrays | Items | Loader):
        return part
    if isinstance(part, Dataset) and isinstance(part, Sized):
        if len(part) == 0:
            raise MinimandError(f"{which} is an empty {type(part).__name__}; expected some samples.")
        return Items(part, workers=0)
    if isinstance(part, Iterable) and not isinstance(part, Tensor | np.ndarray | str | dict):
        try:
            return Loader(part)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{which}: {error}") from None
    raise WrongTypeError(f"{which} is {type(part).__name__}; expected {_PAIR}.")


def _first_batch(samples: Samples, which: str) -> tuple[Tensor, Tensor]:
    batch: Any = next(samples.batches(2))
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)):
        held = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise WrongTypeError(f"a batch of {which} is {type(batch).__name__}{held}; expected {_PAIR}.")
    inputs, targets = batch
    classes = not targets.is_floating_point()
    if targets.ndim not in ((1,) if classes else (1, 2)) or len(targets) != len(inputs):
        expected = "classes of the shape (N,)" if classes else "targets of the shape (N,) or (N, outputs)"
        remedy = " (targets.squeeze(1))" if classes and targets.ndim == 2 and targets.shape[1] == 1 else ""
        raise MinimandError(
            f"the targets of {which} are {targets.dtype} of the shape {tuple(targets.shape)} for {len(inputs)} inputs; "
            f"expected {expected}{remedy}."
        )
    return inputs, targets


def _highest_class(samples: Samples) -> int:
    if isinstance(samples, Arrays):
        return int(samples.targets.max())
    for owner in (samples, getattr(samples, "loader", None)):
        classes = getattr(getattr(owner, "dataset", None), "classes", None)
        if classes is not None:
            return len(classes) - 1
    if isinstance(samples, Loader):
        return samples.counted[1]
    return max(int(targets.max()) for _, targets in samples.batches(256))
