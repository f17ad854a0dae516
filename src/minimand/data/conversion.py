"""Whatever a caller has, as `Data`."""

import warnings
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .._support.errors import MinimandError, WrongTypeError
from .batches import Batch, each, first_tensor
from .data import Data
from .registry import load_data
from .samples import Arrays, Items, Loader, NoSamples, Samples, Stream, class_range, generators_kept, length_of

_PART = "a pair (inputs, targets) of tensors, a data set of such pairs, or a loader of batches"
_MANY_BATCHES = 256


def as_data(value: Any) -> Data:
    """The data that `value` stands for.

    Args:
        value: a `Data`; a name, file or folder (see `load_data`); training samples; or a pair (train, test), test
            perhaps None. Samples are (inputs, targets) as tensors or numpy arrays, a data set of (input, target) pairs,
            indexed or iterated, or a loader of batches. Inputs are (N, ...), a tuple of such, or a dictionary of them
            by argument of the model; a dictionary may hold its targets as "labels". Integer targets are classes
            counted from 0, (N,) or dense, (N, ...); floating-point ones, (N,) or (N, outputs ...), are a regression.

    Raises:
        WrongTypeError, MinimandError: something else; names the part, what it holds and what works.
    """
    if isinstance(value, Data):
        _check_range(value)
        return value
    if isinstance(value, str | PathLike):
        return load_data(fspath(value))
    parts = _parts(value)
    with generators_kept(*parts):
        return _of_parts(*parts)


def _of_parts(train_part: Any, test_part: Any) -> Data:
    """The data of training samples and of test samples, which may be None."""
    train, test = _as_samples(train_part, "train"), _as_samples(test_part, "test")
    inputs, targets = _first_batch(train, "train")
    shape = tuple(first_tensor(inputs).shape[1:])
    if len(test):
        _check_alike(inputs, targets, *_first_batch(test, "test"))
    if targets.is_floating_point():
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        return Data("given", train, test, shape, "regression", outputs=outputs, source="the caller")
    low, high = _range_of_classes(train)
    if low > 0 and targets.ndim == 1:
        raise MinimandError(
            f"the classes in train are {low} to {high}; expected classes counted from 0, so that the model has no "
            f"output that nothing trains: targets - {low}. Where the lower classes only have no sample here, "
            "mm.Data(...) with their names in `classes` takes the targets as they are."
        )
    data = Data("given", train, test, shape, classes=tuple(map(str, range(high + 1))), source="the caller")
    _check_range(data)
    _warn_of_gaps(data)
    return data


def _parts(value: Any) -> tuple[Any, Any]:
    """The training and the test part, None where there is none."""
    alone = isinstance(value, Dataset | DataLoader | Arrays | Items | Loader | Stream)
    if alone or _is_pair_of_arrays(value):
        return value, None
    if isinstance(value, tuple | list) and len(value) == 2:
        return value[0], value[1]
    raise WrongTypeError(
        f"data is {type(value).__name__}; expected a name, an mm.Data, or a pair (train, test), test perhaps None."
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _is_pair_of_arrays(value: Any) -> bool:
    """Whether a value is (inputs, targets), inputs perhaps several arrays."""
    if not (isinstance(value, tuple | list) and len(value) == 2 and _is_array(value[1])):
        return False
    inputs = value[0].values() if isinstance(value[0], Mapping) else value[0]
    return _is_array(inputs) or (isinstance(inputs, Iterable) and all(map(_is_array, inputs)))


def _as_samples(part: Any, which: str) -> Samples:
    if part is None and which == "test":
        return NoSamples()
    if part is not None and _is_pair_of_arrays(part):
        inputs = dict(part[0]) if isinstance(part[0], Mapping) else part[0]
        try:
            inputs = each(torch.as_tensor, tuple(inputs) if isinstance(inputs, list) else inputs)
            targets = torch.as_tensor(part[1])
        except TypeError as error:  # torch's, for numpy arrays of text or objects
            raise WrongTypeError(f"{which} has an array that is no tensor: {error}") from None
        try:
            return Arrays(inputs, targets if targets.is_floating_point() else targets.long())
        except MinimandError as error:
            raise MinimandError(f"{which} has {error}") from None
    if isinstance(part, Arrays | Items | Loader | Stream | NoSamples):
        return part
    if not _is_array(part) and length_of(part) == 0:
        raise MinimandError(f"{which} is an empty {type(part).__name__}; expected some samples.")
    is_iterated = isinstance(part, torch.utils.data.IterableDataset)
    is_indexed = hasattr(part, "__getitem__") and not isinstance(part, tuple | list | Mapping)
    if not is_iterated and not _is_array(part) and is_indexed and length_of(part):
        return Items(part, workers=0)
    if isinstance(part, Iterable) and not isinstance(part, Tensor | np.ndarray | str | Mapping):
        try:
            return Stream(part) if is_iterated else Loader(part)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{which}: {error}") from None
    raise WrongTypeError(f"{which} is {type(part).__name__}; expected {_PART}.")


def _first_batch(samples: Samples, which: str) -> Batch:
    try:
        batch = next(iter(samples.batches(2)), None)
    except WrongTypeError as error:
        raise WrongTypeError(f"in {which} {error}") from None
    if batch is None:
        raise MinimandError(f"{which} is empty; expected some samples.")
    inputs, targets = batch
    each(lambda x: _check_real(x, which), inputs)
    n = len(first_tensor(inputs))
    column = targets.ndim == 2 and targets.shape[1] == 1 and not targets.is_floating_point()
    if targets.ndim == 0 or column or len(targets) != n:
        expected = "classes of the shape (N,)" if column else f"{n} targets, of the shape (N, ...)"
        remedy = " (targets.squeeze(1))" if column else ""
        raise MinimandError(
            f"the targets of {which} are {targets.dtype} of the shape {tuple(targets.shape)} for {n} inputs; "
            f"expected {expected}{remedy}."
        )
    return inputs, targets


def _check_real(x: Tensor, which: str) -> None:
    if x.is_complex():
        raise WrongTypeError(
            f"the inputs of {which} are {x.dtype}, which no layer here takes; expected real and imaginary parts beside "
            "each other: torch.view_as_real(x)."
        )


def _check_alike(inputs: Any, targets: Tensor, test_inputs: Any, test_targets: Tensor) -> None:
    """Raise MinimandError unless batches of training and test samples are of a kind."""
    kinds = [list(x) if isinstance(x, dict) else len(x) if isinstance(x, tuple) else 1 for x in (inputs, test_inputs)]
    if kinds[0] != kinds[1]:
        raise MinimandError(f"a sample has the inputs {kinds[0]} in train and {kinds[1]} in test; expected the same.")
    if isinstance(inputs, Tensor):
        shape, test_shape = tuple(inputs.shape[1:]), tuple(test_inputs.shape[1:])
        if test_shape != shape:
            raise MinimandError(f"a sample has the shape {shape} in train and {test_shape} in test; expected the same.")
    if test_targets.is_floating_point() != targets.is_floating_point():
        raise MinimandError(f"the targets are {targets.dtype} in train and {test_targets.dtype} in test; expected one.")


def _check_range(data: Data) -> None:
    """Check the classes of samples in memory; of other samples each batch is checked when it comes."""
    for samples in (data.train, data.validation, data.test):
        if isinstance(samples, Arrays) and data.task == "classification":
            data.check_classes(samples.targets)


def _warn_of_gaps(data: Data) -> None:
    """Warn of classes without a training sample: outputs of the model that are never right."""
    if not isinstance(data.train, Arrays) or data.train.targets.ndim > 1:
        return
    counts = torch.bincount(data.train.targets, minlength=len(data.classes))
    if missing := [str(c) for c in (counts == 0).nonzero().flatten().tolist()]:
        shown = ", ".join(missing[:10]) + (" ..." if len(missing) > 10 else "")
        warnings.warn(f"no training sample has the class {shown}: its output learns to be never right.", stacklevel=5)


def _range_of_classes(samples: Samples) -> tuple[int, int]:
    if isinstance(samples, Arrays):
        return class_range(samples.targets)
    for owner in (samples, getattr(samples, "loader", None)):
        classes = getattr(getattr(owner, "dataset", None), "classes", None)
        if classes is not None:
            return 0, len(classes) - 1
    if isinstance(samples, Loader):
        return samples.counted[2]
    ranges = [class_range(targets) for _, targets in samples.batches(_MANY_BATCHES)]
    return min(low for low, _ in ranges), max(high for _, high in ranges)
