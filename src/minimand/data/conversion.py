"""Whatever a caller has, as `Data`."""

from collections.abc import Iterable, Sized
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from .data import Data
from .registry import load_data
from .samples import Arrays, Items, Loader, Samples


def as_data(value: Any) -> Data:
    """The data that `value` stands for.

    Args:
        value: a `Data`, a name (see `load_data`), or a pair (train, test), each (inputs, targets) as tensors, a
            data set of (input, target) pairs, or a loader of batches.
    """
    if isinstance(value, Data):
        return value
    if isinstance(value, str):
        return load_data(value)
    if not (isinstance(value, tuple | list) and len(value) == 2):
        raise TypeError(f"data is {type(value).__name__}; expected a name, an mm.Data, or a pair (train, test).")
    train, test = (_as_samples(part, which) for part, which in zip(value, ("train", "test"), strict=True))
    inputs, targets = next(train.batches(256))
    if targets.is_floating_point():
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        return Data("given", train, test, tuple(inputs.shape[1:]), "regression", outputs=outputs, source="the caller")
    number = _highest_class(train) + 1
    classes = tuple(str(i) for i in range(number))
    return Data("given", train, test, tuple(inputs.shape[1:]), classes=classes, source="the caller")


def _as_samples(part: Any, which: str) -> Samples:
    if isinstance(part, tuple | list) and len(part) == 2 and all(isinstance(t, Tensor) for t in part):
        return Arrays(*part)
    if isinstance(part, Arrays | Items | Loader):
        return part
    if isinstance(part, Dataset) and isinstance(part, Sized):
        return Items(part, workers=0)
    if isinstance(part, Iterable) and not isinstance(part, Tensor | str):
        return Loader(part)
    raise TypeError(
        f"{which} is {type(part).__name__}; expected a pair of tensors (inputs, targets), a data set or a loader."
    )


def _highest_class(samples: Samples) -> int:
    if isinstance(samples, Arrays):
        return int(samples.targets.max())
    known = getattr(getattr(samples, "dataset", None), "classes", None)
    if known is not None:
        return len(known) - 1
    return max(int(targets.max()) for _, targets in samples.batches(256))
