"""Tensors that autograd saves for backward, in as few bytes as hold exactly what is in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ...._support.torch.internals import storage_id, version
from ....layers.thresholds import Threshold

# Smaller tensors are not worth the calls.
_SMALLEST = 256
# The bits of each byte, one byte a row.
_PATTERNS = torch.from_numpy(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1))


@dataclass(frozen=True)
class PackedActivation:
    """The output of a threshold as codes, in the order of its memory: bits, or bytes if it has more than two levels."""

    threshold: Threshold
    codes: Tensor
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, h: Tensor, threshold: Threshold) -> Self:
        """Pack an output of a threshold; its memory has no holes."""
        flat = h.detach().as_strided((h.numel(),), (1,))
        codes = _bits(flat, threshold.low) if threshold.levels == 2 else threshold.codes(flat)
        return cls(threshold, codes, h.shape, h.stride(), h.dtype)

    def unpacked(self) -> Tensor:
        """The activation as it was, to the bit."""
        if self.threshold.levels == 2:
            h = _from_bits(self.codes, self.threshold.from_codes(_PATTERNS, self.dtype))[: self.shape.numel()]
        else:
            h = self.threshold.from_codes(self.codes, self.dtype)
        return h.as_strided(self.shape, self.stride)


class SavedActivations:
    """Saves outputs of thresholds as packed activations, and indices as short integers; other tensors as they are."""

    def __init__(self) -> None:
        # By the key of the storage: a reference to it, the version of its content, and the threshold that wrote it.
        self._outputs: dict[int, tuple[StorageWeakRef, int, Threshold]] = {}
        self._packed: dict[tuple[Any, ...], PackedActivation] = {}

    def register(self, h: Tensor, threshold: Threshold) -> None:
        """Take note that h is an output of the threshold."""
        reference = StorageWeakRef(h.untyped_storage())
        self._outputs[reference.cdata] = reference, version(h), threshold

    @contextmanager
    def saving(self) -> Iterator[None]:
        with torch.autograd.graph.saved_tensors_hooks(self.pack, unpacked):
            yield
        self._outputs.clear()
        self._packed.clear()

    def pack(self, tensor: Tensor) -> Tensor | PackedActivation:
        """The form in which a tensor is saved; `unpacked` is the inverse."""
        if tensor.numel() < _SMALLEST:
            return tensor
        if tensor.dtype == torch.int64:
            return _short(tensor)
        output = self._outputs.get(storage_id(tensor.untyped_storage()))
        if output is None or not tensor.dtype.is_floating_point or not _is_dense(tensor):
            return tensor
        reference, noted_version, threshold = output
        if reference.expired() or version(tensor) != noted_version:
            return tensor
        key = (reference.cdata, tensor.storage_offset(), tensor.shape, tensor.stride())
        if key not in self._packed:  # several layers may read it
            self._packed[key] = PackedActivation.of(tensor, threshold)
        return self._packed[key]


def unpacked(saved: Tensor | PackedActivation) -> Tensor:
    """The tensor that `SavedActivations.pack` was given."""
    if isinstance(saved, PackedActivation):
        return saved.unpacked()
    # No layer saves short integers of its own: they are indices.
    return saved.long() if saved.dtype in (torch.int16, torch.int32) else saved


def _short(indices: Tensor) -> Tensor:
    low, high = (int(end) for end in indices.aminmax())
    for dtype in (torch.int16, torch.int32):
        limits = torch.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return indices.to(dtype)
    return indices


def _is_dense(tensor: Tensor) -> bool:
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def _bits(values: Tensor, low: float) -> Tensor:
    """Whether each value is more than `low`, eight to a byte."""
    if values.device.type == "cpu":
        # numpy compares eight times as fast as torch, but knows no bfloat16.
        above = (values > low).numpy() if values.dtype == torch.bfloat16 else values.numpy() > low
        return torch.from_numpy(np.packbits(above))
    padded = torch.nn.functional.pad((values > low).to(torch.uint8), (0, -len(values) % 8)).view(-1, 8)
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=values.device)
    return (padded * weights).sum(1, dtype=torch.uint8)


def _from_bits(bits: Tensor, table: Tensor) -> Tensor:
    """For each byte the row of eight values in a table (256, 8), one after another."""
    if bits.device.type != "cpu":
        return torch.nn.functional.embedding(bits.int(), table.to(bits.device)).flatten()
    # numpy has no bfloat16, and takes integers of the same size.
    integers = table.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[table.itemsize])
    return torch.from_numpy(integers.numpy().take(bits.numpy(), axis=0)).view(table.dtype).flatten()
