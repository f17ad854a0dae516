"""The numbers of one tensor of a batch: sizes, angles between samples and tokens, and what is 0 or at an end."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from .reading import NOT_MEASURED, Reading

# Within a hundredth of the end of its range an activation has lost most of its slope.
_NEAR = 0.01


class Signal(NamedTuple):
    """The readings of one tensor, as `LayerStat` explains them, and how many entries are near the ends of a range."""

    mean: Reading = NOT_MEASURED
    second: Reading = NOT_MEASURED
    variance: Reading = NOT_MEASURED
    cosine: Reading = NOT_MEASURED
    token_cosine: Reading = NOT_MEASURED
    nonfinite: Reading = NOT_MEASURED
    zero: Reading = NOT_MEASURED
    dead: Reading = NOT_MEASURED
    near_one: Reading = NOT_MEASURED
    near_ends: Reading = NOT_MEASURED


class PendingSignal:
    """A signal whose numbers are still on the device of its tensor: those of all tensors are waited for at once."""

    def __init__(self, t: Tensor, samples: int) -> None:
        """Measure a batch of samples; angles need two that point somewhere."""
        axis = next((i for i in range(min(t.ndim, 2)) if t.shape[i] == samples), 0)
        t = t.movedim(axis, 0)
        by_sample = samples > 0 and t.ndim > 0 and t.shape[0] % samples == 0
        x = t.reshape(samples if by_sample else 1, -1).to(wide(t.device))
        zero, size = x == 0, x.abs()
        # A unit is a channel of images, else an entry of the last dimension.
        whole = zero.reshape(t.shape if t.ndim > 1 else (-1, 1))
        numbers = {
            "mean": x.mean(),
            "second": x.square().mean(),
            "nonfinite": 1 - x.isfinite().to(x.dtype).mean(),
            "zero": zero.to(x.dtype).mean(),
            "dead": whole.movedim(1 if whole.ndim >= 4 else -1, 0).flatten(1).all(1).to(x.dtype).mean(),
            "near_one": (size > 1 - 2 * _NEAR).to(x.dtype).mean(),
            "near_ends": ((x < _NEAR) | (x > 1 - _NEAR)).to(x.dtype).mean(),
        }
        self.angles: list[str] = []
        if by_sample and samples > 1:
            numbers["variance"] = (x - x.mean(0)).square().mean()
            self._add_angle(numbers, "cosine", x[None])
        if t.ndim == 3 and t.shape[0] == samples and t.shape[1] > 1:
            self._add_angle(numbers, "token_cosine", t.to(x.dtype))
        self.names = list(numbers)
        self.numbers = torch.stack(list(numbers.values()))

    def _add_angle(self, numbers: dict[str, Tensor], name: str, vectors: Tensor) -> None:
        """The mean cosine over pairs of vectors (groups, vectors, units) of a group, and how many groups have pairs."""
        squares = vectors.square().sum(2)
        directions = vectors / squares.sqrt().clamp_min(torch.finfo(vectors.dtype).tiny)[:, :, None]
        alive = (squares != 0).sum(1)  # NaN is a number that was measured
        pairs = alive * (alive - 1)
        cosines = (directions.sum(1).square().sum(1) - alive) / pairs.clamp_min(1)
        numbers[name] = (cosines * (pairs > 0)).sum() / (pairs > 0).sum().clamp_min(1)
        numbers[f"{name} groups"] = (pairs > 0).sum().to(vectors.dtype)
        self.angles.append(name)

    def read(self, numbers: Iterator[float]) -> Signal:
        """The signal, of the numbers of all tensors in order."""
        values: dict[str, float] = dict(zip(self.names, islice(numbers, len(self.names)), strict=True))
        for name in self.angles:
            if not values.pop(f"{name} groups"):
                del values[name]
        return Signal(**values)


def wide(device: torch.device) -> torch.dtype:
    """The widest float type of a device: squares of vanishing gradients underflow in single precision."""
    return torch.float32 if device.type == "mps" else torch.float64
