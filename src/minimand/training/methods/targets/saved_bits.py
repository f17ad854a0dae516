"""Tensors that autograd keeps, in as few bytes as hold exactly what is in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ....layers.thresholds import Threshold

# Smaller ones are not worth the calls.
_SMALLEST = 256
# The bits of each byte.
_PATTERNS = torch.from_numpy(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1))


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
        data = _bits(flat, threshold.low) if threshold.levels == 2 else threshold.codes(flat)
        return cls(threshold, data, h.shape, h.stride(), h.dtype)

    def unpacked(self) -> Tensor:
        """As it was, to the bit."""
        if self.threshold.levels == 2:
            h = _from_bits(self.data, self.threshold.from_codes(_PATTERNS, self.dtype))[: self.shape.numel()]
        else:
            h = self.threshold.from_codes(self.data, self.dtype)
        return h.as_strided(self.shape, self.stride)


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


def _bits(values: Tensor, low: float) -> Tensor:
    """Whether each is more than `low`, eight to a byte."""
    if values.device.type == "cpu":
        # numpy compares eight times as fast as torch, but knows no bfloat16.
        more = (values > low).numpy() if values.dtype == torch.bfloat16 else values.numpy() > low
        return torch.from_numpy(np.packbits(more))
    padded = torch.nn.functional.pad((values > low).to(torch.uint8), (0, -len(values) % 8)).view(-1, 8)
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=values.device)
    return (padded * weights).sum(1, dtype=torch.uint8)


def _from_bits(bits: Tensor, table: Tensor) -> Tensor:
    """For each byte the row of eight in a table (256, 8), one after another."""
    if bits.device.type != "cpu":
        return torch.nn.functional.embedding(bits.int(), table.to(bits.device)).flatten()
    alike = table.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[table.itemsize])  # numpy has no bfloat16
    return torch.from_numpy(alike.numpy().take(bits.numpy(), axis=0)).view(table.dtype).flatten()
