"""The steps of a packed model, from bits to bits. Each has what it was made of under the names of its arguments."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import or_, xor
from typing import Any, cast

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError
from .kernels.bits import Bits, pack_above, pool_any, unpack
from .kernels.convolution import Convolution, PackedWeights, pack_weights, prepare
from .memory import Write, is_channels_last, is_channels_last_after, laid_out

Pair = tuple[int, int]
Pooling = tuple[Pair, Pair, Pair]
"""The kernel, stride and padding of max pooling."""
Geometry = tuple[Pair, Pair, Pair, int]
"""The stride, padding, dilation and groups of a convolution."""
_SHAPES = 64  # the most shapes of activations that a layer is prepared for at a time


@dataclass(frozen=True, eq=False)
class BitActivations:
    """The output of a threshold: for each of its jumps, in their order, the bits of what is above it."""

    planes: tuple[Bits, ...]
    leading: tuple[int, ...] | None
    """The axes of vectors before their last one (their bits may still have a height and a width); None for maps."""
    channels_last: bool
    """Whether torch would take the real activations to lie in channels-last memory."""

    def map(self, function: Callable[[Bits], Bits]) -> "BitActivations":
        """Activations whose planes are a function of these planes."""
        return replace(self, planes=tuple(map(function, self.planes)))

    def digits(self) -> list[Bits]:
        """The planes of the number of jumps below, as a binary number; the lowest first."""
        # A number's binary digit j is the parity of how many multiples of 2^j are up to it.
        count = len(self.planes)
        if count == 1:
            return list(self.planes)
        return [
            Bits(reduce(xor, [self.planes[i - 1].words for i in range(2**j, count + 1, 2**j)]), self.channels)
            for j in range(count.bit_length())
        ]

    @property
    def channels(self) -> int:
        """The number of channels C of the packed bits."""
        return self.planes[0].channels

    def real(self, levels: Tensor) -> Tensor:
        """The real activations, of the values `levels`: (L, C), or (L, 1)."""
        if len(self.planes) == levels.shape[1] == 1:
            low, high = levels.flatten().tolist()
            x = unpack(self.planes[0], low, high)
        else:
            above = sum(unpack(plane, 0, 1, torch.int32) for plane in self.planes)
            x = levels.expand(-1, self.channels)[above, torch.arange(self.channels)[:, None, None]]
        x = laid_out(x, self.channels_last)
        return x if self.leading is None else x.reshape(*self.leading, x.shape[1:].numel())


class _Cutting(nn.Module):
    """A step that compares with thresholds; then, if need be, pools, and turns some channels over."""

    thresholds: Tensor | None
    flip: Tensor
    after: Tensor | None

    def __init__(
        self,
        thresholds: Tensor | None,
        flip: Tensor | None,
        after: Tensor | None,
        pooling: Pooling | None,
        writes: tuple[Write, ...],
    ) -> None:
        super().__init__()
        self.register_buffer("thresholds", thresholds)
        for name, mask in {"flip": flip, "after": after}.items():
            self.register_buffer(name, mask if mask is not None and mask.any() else None)
        self.pooling: Pooling | None = pooling
        self.writes = writes

    def finish(self, bits: Bits) -> Bits:
        """The bits of one jump after pooling and turning over."""
        if self.pooling:
            bits = pool_any(bits, *self.pooling)
        if self.after is not None:
            bits = Bits(bits.words ^ pack_above(self.after[None].float()).words, bits.channels)
        return bits


class PackReal(_Cutting):
    """Real values to bits: (z > thresholds[j]) xor flip; thresholds are (jumps, C), or (jumps, 1).

    Channels are the second axis of (N, C) and (N, C, H, W); if they are `last`, of any shape the last one.
    """

    def __init__(
        self,
        thresholds: Tensor | None,
        flip: Tensor | None,
        after: Tensor | None,
        pooling: Pooling | None,
        last: bool,
        writes: tuple[Write, ...],
    ) -> None:
        super().__init__(thresholds, flip, after, pooling, writes)
        self.last = last

    def forward(self, z: Tensor) -> BitActivations:
        leading = tuple(z.shape[:-1]) if self.last or z.ndim == 2 else None
        if leading is None and z.ndim != 4:
            raise MinimandError(f"a threshold was given {tuple(z.shape)}; packed layers take (N, C) or (N, C, H, W).")
        shape, is_last = tuple(z.shape), leading is None and is_channels_last(z)
        z = z if leading is None else z.reshape(-1, z.shape[-1])
        channels, limits = z.shape[1], cast(Tensor, self.thresholds)
        flip = None if self.flip is None else self.flip.expand(channels).contiguous()
        planes = [self.finish(pack_above(z, t.expand(channels).contiguous(), flip)) for t in limits]
        if leading is None:
            is_last = is_channels_last_after(self.writes, (shape, planes[0].shape), is_last)
        return BitActivations(tuple(planes), leading, is_last)


class PackedLayer(_Cutting):
    """A layer of few-bit weights on bits; to bits if it has thresholds, else to real values.

    Args:
        integers: the weights as int8, (O, C / groups, kh, kw) or (O, C).
        scale: (O,), from sums to real values; None if it has thresholds.
        thresholds: int32 (K, jumps, O), for each of the K levels of a shortcut, or K = 1 without one.
        flip: (O,), whether a bit is 1 below its threshold; `after`, whether it is turned over after pooling.
        bits: the bits of each weight.
        geometry: None for a linear layer.
        low: what a bit that is not set stands for, -1 or 0.
        reads, writes: what wrote the real activations before and after the convolution, in the model that was packed.
        weight_last: whether the weight lay in channels-last memory there.
    """

    integers: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        integers: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        thresholds: Tensor | None,
        flip: Tensor | None,
        after: Tensor | None,
        pooling: Pooling | None,
        bits: int,
        geometry: Geometry | None,
        low: int,
        reads: tuple[Write, ...],
        writes: tuple[Write, ...],
        weight_last: bool,
    ) -> None:
        super().__init__(thresholds, flip, after, pooling, writes)
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self.bits, self.low, self.reads, self.weight_last = bits, low, reads, weight_last
        self.geometry: Geometry | None = geometry
        self._laid_out: dict[Pair, PackedWeights] = {}
        self._prepared: dict[tuple[tuple[int, ...], bool], Convolution] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Another machine may have other kernels.
        return {**self.__dict__, "_laid_out": {}, "_prepared": {}}

    def forward(self, x: BitActivations, shortcut: BitActivations | None = None) -> Any:
        digits, convolution, limits = x.digits(), self._prepared_for(x), self.thresholds
        if limits is None:
            return self._real(self._sums(digits, convolution), x)
        levels, jumps, _ = limits.shape
        if len(digits) == jumps == 1 and levels <= 2:
            switch, switched = (None, None) if shortcut is None else (shortcut.planes[0], limits[1, 0])
            planes = [convolution.above(digits[0], limits[0, 0], self.flip, switch, switched)]
        else:
            sums = self._sums(digits, convolution)
            planes = [self._above(sums, limits[:, j], shortcut) for j in range(jumps)]
        planes = tuple(map(self.finish, planes))
        if self.geometry is None:
            return BitActivations(planes, x.leading, x.channels_last)
        other = shortcut is not None and shortcut.channels_last
        return BitActivations(planes, None, self._is_last(x, convolution.shape, planes[0].shape, other))

    def operations(self, x: BitActivations) -> int:
        """The multiplications for one sample of such activations: for each weight, position and bit of the levels."""
        _, _, height, width = x.planes[0].shape
        positions = math.prod(x.leading[1:]) if x.leading else 1
        if self.geometry is not None:
            stride, padding, dilation, _ = self.geometry
            sides = zip((height, width), self.integers.shape[2:], stride, padding, dilation, strict=True)
            positions = math.prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)
        return positions * self.integers.numel() * len(x.planes).bit_length()

    def _prepared_for(self, x: BitActivations) -> Convolution:
        """What is done with activations of such a shape; a linear layer sees all positions in one window."""
        shape = x.planes[0].shape
        key = shape, x.leading is None
        if key not in self._prepared:
            if len(self._prepared) == _SHAPES:
                self._prepared.clear()
            self._prepared[key] = self._prepare(x, (shape[2], shape[3]))
        return self._prepared[key]

    def _prepare(self, x: BitActivations, size: Pair) -> Convolution:
        if self.geometry is None:
            features = x.channels * math.prod(size)
            if x.leading is None or features != self.integers.shape[1]:
                shown = f"{features} numbers" if x.leading else f"maps of {x.channels} channels"
                raise MinimandError(
                    f"a linear layer was given {shown} a sample; expected {self.integers.shape[1]} numbers: the "
                    "network is made for images of another size."
                )
            kernel, geometry = size, cast(Geometry, ((1, 1), (0, 0), (1, 1), 1))
        else:
            if x.leading is not None:
                raise MinimandError(f"a convolution was given vectors of {x.channels}; expected maps.")
            kernel, geometry = (self.integers.shape[2], self.integers.shape[3]), self.geometry
        stride, padding, dilation, groups = geometry
        if kernel not in self._laid_out:
            integers = self.integers if self.geometry else self.integers.view(len(self.integers), -1, *kernel)
            self._laid_out[kernel] = pack_weights(integers, self.bits, groups)
        return prepare(x.planes[0], self._laid_out[kernel], stride, padding, dilation, self.low)

    def _sums(self, digits: list[Bits], convolution: Convolution) -> Tensor:
        parts = [convolution.sums(digit) for digit in digits]
        for j, part in enumerate(parts[1:], 1):
            parts[0] += part << j
        return parts[0]

    def _above(self, sums: Tensor, limits: Tensor, shortcut: BitActivations | None) -> Bits:
        """The bits of one jump, where `limits` has a row for each level of the shortcut."""
        bits = [pack_above(sums, limit, self.flip) for limit in limits]
        if shortcut is None:
            return bits[0]
        above = [plane.words for plane in shortcut.planes]
        exactly = [~above[0], *[a & ~b for a, b in pairwise(above)], above[-1]]
        return Bits(reduce(or_, [b.words & at for b, at in zip(bits, exactly, strict=True)]), bits[0].channels)

    def _real(self, sums: Tensor, x: BitActivations) -> Tensor:
        assert self.scale is not None
        y = sums.float() * self.scale.view(-1, 1, 1)
        y = y if self.bias is None else y + self.bias.view(-1, 1, 1)
        if self.geometry is None:
            return y.reshape(*cast(tuple[int, ...], x.leading), y.shape[1:].numel())
        shape = tuple(y.shape)
        return laid_out(y, self._is_last(x, shape, shape))

    def _is_last(
        self, x: BitActivations, before: tuple[int, ...], pooled: tuple[int, ...], other: bool = False
    ) -> bool:
        """Whether the real activations would lie in channels-last memory; `other`, whether those of the shortcut do."""
        shape = x.planes[0].shape
        is_last = self.weight_last or is_channels_last_after(self.reads, (shape, shape), x.channels_last)
        return is_channels_last_after(self.writes, (before, pooled), is_last, other)


class Unpack(nn.Module):
    """Bits to real values, which are `levels`."""

    levels: Tensor

    def __init__(self, levels: Tensor) -> None:
        super().__init__()
        self.register_buffer("levels", levels)

    def forward(self, x: BitActivations) -> Tensor:
        return x.real(self.levels)


class Pool(nn.Module):
    """Max pooling of the bits of each jump."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, x: BitActivations) -> BitActivations:
        pooled = x.map(lambda bits: pool_any(bits, *self.pooling))
        shapes = x.planes[0].shape, pooled.planes[0].shape
        return replace(pooled, channels_last=is_channels_last_after(("pool",), shapes, x.channels_last))


class AsVectors(nn.Module):
    """(N, C, H, W) to (N, C H W), of which there have to be `features`, if it is a number."""

    def __init__(self, features: int | None, image_size: int | None) -> None:
        super().__init__()
        self.features, self.image_size = features, image_size

    def forward(self, x: BitActivations) -> BitActivations:
        _, channels, height, width = x.planes[0].shape
        if self.features not in (None, channels * height * width):
            raise MinimandError(
                f"these images leave maps of {height} x {width}; the network is made for images of {self.image_size} x "
                f"{self.image_size}."
            )
        if x.leading is not None and len(x.leading) > 1:
            raise MinimandError(f"vectors of {x.leading} samples and positions were to be flattened; expected maps.")
        return replace(x, leading=(len(x.planes[0].words),))


class Shortcut(nn.Module):
    """Every `stride`-th pixel, with bits that are not set as channels before and after."""

    def __init__(self, stride: Pair, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: BitActivations) -> BitActivations:
        return x.map(self._of)

    def _of(self, bits: Bits) -> Bits:
        words = bits.words[:, :: self.stride[0], :: self.stride[1]]
        channels = self.before + bits.channels + self.after
        whole, shift = divmod(self.before, 64)
        shifted = words.new_zeros(*words.shape[:3], whole + words.shape[3] + 1)
        shifted[..., whole:-1] = words << shift
        if shift:  # >> keeps the sign: what it fills in is cut off
            shifted[..., whole + 1 :] |= (words >> (64 - shift)) & ((1 << shift) - 1)
        return Bits(shifted[..., : -(-channels // 64)].contiguous(), channels)
