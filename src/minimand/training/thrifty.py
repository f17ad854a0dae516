"""Tensors that autograd keeps, in as few bytes as hold exactly what is in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ..blocks import Threshold

# Smaller ones are not worth the calls.
_SMALLEST = 256


@dataclass(frozen=True)
class Packed:
    """An activation as codes, in the order of its memory."""

    threshold: Threshold
    data: Tensor
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, h: Tensor, threshold: Threshold) -> Self:
        """An output of a threshold, without holes in its memory."""
        flat = h.detach().as_strided((h.numel(),), (1,))
        data = _bits(flat > threshold.low) if threshold.levels == 2 else threshold.codes(flat)
        return cls(threshold, data, h.shape, h.stride(), h.dtype)

    def unpacked(self) -> Tensor:
        """As it was, to the bit."""
        codes = self.data
        if self.threshold.levels == 2:
            codes = _from_bits(codes, self.shape.numel())
        return self.threshold.from_codes(codes, self.dtype).as_strided(self.shape, self.stride)


class Thrifty:
    """Keeps outputs of thresholds as bits, or bytes where there are more than two levels, and indices as short ones."""

    def __init__(self) -> None:
        # By the address of the storage: itself, the version of its content, and what it came from.
        self._known: dict[int, tuple[StorageWeakRef, int, Threshold]] = {}
        self._packed: dict[tuple[Any, ...], Packed] = {}

    def note(self, h: Tensor, threshold: Threshold) -> None:
        """Note that h is an output of the threshold."""
        weak = StorageWeakRef(h.untyped_storage())
        self._known[weak.cdata] = weak, h._version, threshold

    @contextmanager
    def saving(self) -> Iterator[None]:
        """What is saved for backward within it is kept so."""
        with torch.autograd.graph.saved_tensors_hooks(self.pack, unpacked):
            yield
        self._known.clear()
        self._packed.clear()

    def pack(self, tensor: Tensor) -> Tensor | Packed:
        """What is kept of a tensor, for `unpacked`."""
        if tensor.numel() < _SMALLEST:
            return tensor
        if tensor.dtype == torch.int64:
            return _short(tensor)
        found = self._known.get(tensor.untyped_storage()._cdata)
        if found is None or tensor._version != found[1] or not tensor.dtype.is_floating_point or not _is_dense(tensor):
            return tensor
        weak, _, threshold = found
        if weak.expired():
            return tensor
        key = (weak.cdata, tensor.storage_offset(), tensor.shape, tensor.stride())
        if key not in self._packed:  # several layers may read it
            self._packed[key] = Packed.of(tensor, threshold)
        return self._packed[key]


def unpacked(kept: Tensor | Packed) -> Tensor:
    """The inverse of `Thrifty.pack`."""
    if isinstance(kept, Packed):
        return kept.unpacked()
    # Short integers are of nothing else: no layer keeps any.
    return kept.long() if kept.dtype in (torch.int16, torch.int32) else kept


def _short(indices: Tensor) -> Tensor:
    low, high = (int(end) for end in indices.aminmax())
    for kind in (torch.int16, torch.int32):
        limits = torch.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return indices.to(kind)
    return indices


def _is_dense(tensor: Tensor) -> bool:
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.is_contiguous() or last


def _bits(flags: Tensor) -> Tensor:
    if flags.device.type == "cpu":
        return torch.from_numpy(np.packbits(flags.numpy()))
    padded = torch.nn.functional.pad(flags.to(torch.uint8), (0, -len(flags) % 8)).view(-1, 8)
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=flags.device)
    return (padded * weights).sum(1, dtype=torch.uint8)


def _from_bits(bits: Tensor, count: int) -> Tensor:
    if bits.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(bits.numpy(), count=count))
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    return ((bits[:, None] >> shifts) & 1).flatten()[:count]
