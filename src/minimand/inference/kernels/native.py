"""The operations on bits by the kernels in `source`: called with what was checked before."""

import ctypes
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from . import portable
from .build import library
from .portable import Geometry, Pair

BLOCK = 16  # outputs in a block of the layout
LEVELS = ("portable", "neon", "avx2", "avx512")
_SMALL = 2**21  # products of weight and activation that are not worth a second thread
_CACHED = 2**20  # weights whose tables, 64 bytes for five, stay in the cache
_forced: list[str | None] = []


@cache
def supported() -> tuple[str, ...]:
    """The levels of this machine's processor, the best last; none where the kernels cannot be built."""
    kernels = library()
    return () if kernels is None else tuple(name for i, name in enumerate(LEVELS) if kernels.minimand_supported(i))


@contextmanager
def level(name: str | None) -> Iterator[None]:
    """A context in which the kernels are those of a level; with None torch does the work instead."""
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def takes(x: Tensor, bits: int = 1) -> bool:
    """Whether the kernels are there for a tensor of this device, and faster than torch for weights of so many bits."""
    return x.is_cpu and _level() not in (None, "portable" if bits > 1 else None)


def pack_above(z: Tensor, thresholds: Tensor | None, flip: Tensor | None) -> Tensor:
    """Words of the bits (z > threshold) xor flip of z, (N, C, H, W), float32 or int32."""
    last = z.is_contiguous(memory_format=torch.channels_last)
    if not (last or z.is_contiguous()):
        z, last = z.contiguous(memory_format=torch.channels_last), True
    samples, channels, height, width = z.shape
    words = torch.empty(samples, height, width, -(-channels // 64), dtype=torch.int64)
    flips = None if flip is None else portable.to_words(flip)
    run = _library().minimand_pack_floats if z.is_floating_point() else _library().minimand_pack_integers
    shape = _longs(samples, channels, height * width)
    limits = None if thresholds is None else thresholds.contiguous()
    run(_index(), _at(z), shape, int(last), _at(limits), _at(flips), _at(words), _threads(16 * z.numel()))
    return words


def unpack(words: Tensor, channels: int, low: float, high: float) -> Tensor:
    """Activations of words, float32, in channels-last memory."""
    values = torch.empty(*words.shape[:3], channels)
    rows, threads = words.shape[:3].numel(), _threads(16 * values.numel())
    _library().minimand_unpack(_index(), _at(words), rows, channels, low, high, _at(values), threads)
    return values.permute(0, 3, 1, 2)


def pool_any(words: Tensor, kernel: Pair, stride: Pair, padding: Pair, out: Pair) -> Tensor:
    """Words that are 1 where any of a window is."""
    pooled = torch.empty(len(words), *out, words.shape[3], dtype=torch.int64)
    window = _longs(*kernel, *stride, *padding)
    run = _library().minimand_pool
    run(_at(words), _longs(*words.shape), window, _longs(*out), _at(pooled), _threads(64 * pooled.numel()))
    return pooled


@dataclass(frozen=True, eq=False)
class Layout:
    """Weights as the kernels read them."""

    kind: int
    """The product: 1, by differing bits; 2, by the bits shared with two planes; 8, by bytes."""
    weights: Tensor
    """The weights in blocks of 16 outputs."""
    tables: Tensor | None
    """For each five weights of an output their 32 sums, int16: faster at many positions."""
    taps: Tensor
    """The sum of the weights of each place in the window, int32 (taps, padded outputs)."""
    ones: Tensor
    """The number of weights that are 1, int32 (padded outputs)."""
    shape: tuple[int, ...]
    groups: int


def lay_out(integers: Tensor, bits: int, groups: int) -> Layout:
    """Lay out integers, (O, C / groups, kh, kw); more than two bits go as bytes, and as tables."""
    outputs, inputs, height, width = integers.shape
    windows = integers.permute(0, 2, 3, 1).reshape(groups, outputs // groups, -1)
    blocks = F.pad(windows, (0, 0, 0, -windows.shape[1] % BLOCK)).reshape(-1, BLOCK, windows.shape[2])
    if bits == 1:
        weights = portable.to_words(blocks > 0).transpose(1, 2)
    elif bits == 2:
        planes = torch.stack([portable.to_words((blocks >> i & 1).bool()) for i in range(2)], 1)
        weights = planes.permute(0, 3, 1, 2)
    else:
        weights = F.pad(blocks, (0, -blocks.shape[2] % 4)).unflatten(2, (-1, 4)).transpose(1, 2)
    tabled = bits > 2 and _level() == "avx512" and blocks.numel() < _CACHED and _library().minimand_tables()
    padded = blocks.flatten(0, 1).unflatten(1, (height * width, inputs))
    taps = padded.sum(2, dtype=torch.int32).t().contiguous()
    ones = (padded > 0).sum((1, 2), dtype=torch.int32)
    kind, tables = bits if bits < 4 else 8, _tables(blocks) if tabled else None
    return Layout(kind, weights.contiguous(), tables, taps, ones, tuple(integers.shape), groups)


def _tables(blocks: Tensor) -> Tensor:
    fives = F.pad(blocks, (0, -blocks.shape[2] % 5)).unflatten(2, (-1, 5))
    taken = (torch.arange(32) >> torch.arange(5)[:, None] & 1).float()  # an index's bits
    return (fives.float() @ taken).to(torch.int16).unflatten(1, (-1, 4)).transpose(2, 3).contiguous()


@dataclass(frozen=True, eq=False)
class KernelPlan:
    """A convolution of words of one shape, as the kernels take it but for the addresses of this call."""

    numbers: bytes
    """The bytes of the fields before the pointers in the kernel's struct Convolution."""
    shape: tuple[int, int, int, int]
    """The shape of the sums, (N, Ho, Wo, O)."""
    work: int
    """The number of products of weight and activation."""
    layout: Layout
    weights: Tensor  # in the order of the layout, or as its tables


# The numbers stand in the order of the fields of struct Convolution in C.
_NUMBERS = struct.Struct("18l")
_CALL = struct.Struct("2l10P")


def plan(shape: tuple[int, ...], layout: Layout, geometry: Geometry, out: Pair, low: int) -> KernelPlan:
    """The plan for words of a shape, with an output of height and width `out`."""
    outputs, inputs, *kernel = layout.shape
    samples, *size, _ = shape
    positions = samples * out[0] * out[1]
    work = positions * math.prod(layout.shape)
    # A pass over the tables serves 128 positions; from memory the first one is slow.
    tabled = layout.tables is not None and positions >= max(96, math.prod(layout.shape) >> 11)
    kind, weights = (16, layout.tables) if tabled else (layout.kind, layout.weights)
    stride, padding, dilation = geometry
    sizes = (samples, *size, inputs * layout.groups, outputs, layout.groups, *kernel)
    numbers = _NUMBERS.pack(*sizes, *stride, *padding, *dilation, *out, kind, low)
    return KernelPlan(numbers, (samples, *out, outputs), work, layout, cast(Tensor, weights))


def convolve(words: Tensor, plan: KernelPlan) -> Tensor:
    """The sums of a convolution, (N, O, Ho, Wo) in channels-last memory."""
    sums = torch.empty(plan.shape, dtype=torch.int32)
    _convolve(words, plan, _at(sums), 0, 0, 0, 0, 0)
    return sums.permute(0, 3, 1, 2)


def convolve_above(
    words: Tensor,
    plan: KernelPlan,
    thresholds: Tensor,
    flip: Tensor | None,
    shortcut: Tensor | None,
    shortcut_limits: Tensor | None,
) -> Tensor:
    """Words of the sums above thresholds; where the words `shortcut` are 1, above those of the shortcut."""
    *positions, outputs = plan.shape
    high = torch.zeros(*positions, -(-outputs // 64), dtype=torch.int64)
    limits, flips = thresholds.contiguous(), None if flip is None else flip.contiguous()
    switched = None if shortcut_limits is None else shortcut_limits.contiguous()
    _convolve(words, plan, 0, _at(limits), _at(switched), _at(flips), _at(shortcut), _at(high))
    return high


def _convolve(words: Tensor, plan: KernelPlan, *addresses: int) -> None:
    data = _at(words), _at(plan.weights), _at(plan.layout.taps), _at(plan.layout.ones)
    call = _CALL.pack(_index(), _threads(plan.work), *data, *addresses)
    _library().minimand_convolve(plan.numbers + call)


def _level() -> str | None:
    return _forced[-1] if _forced else (supported() or (None,))[-1]


def _index() -> int:
    return LEVELS.index(_level() or "")


def _library() -> ctypes.CDLL:
    kernels = library()
    assert kernels is not None  # `takes` says so
    return kernels


def _threads(work: int) -> int:
    return 1 if work < _SMALL else torch.get_num_threads()


def _longs(*numbers: int) -> ctypes.Array[ctypes.c_long]:
    return (ctypes.c_long * len(numbers))(*numbers)


def _at(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()
