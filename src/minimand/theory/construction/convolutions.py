"""Convolutional blocks that add linear functionals and neurons of some channels to others, with taps -1, 0 and 1."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from .coupling import Shear
from .shallow_convolution import ShallowConvolution, Shift

Taps = dict[tuple[int, Shift], float]
"""The weight of each (channel, shift), shifts of at most one position on an axis."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Hidden(NamedTuple):
    """A hidden channel of a block: what it reads, its bias, and its weight in each channel of the state."""

    taps: Taps
    bias: float
    outgoing: Tensor


class Program:
    """Coupling steps of convolutional blocks, written one after another."""

    def __init__(self, shallow: ShallowConvolution, channels: int, slope: float) -> None:
        self.size, self.activation = shallow.size, shallow.activation
        self.padding: Literal["circular", "zeros"] = shallow.padding
        self.channels, self.slope = channels, slope
        self.eye = torch.eye(channels).to(shallow.weight)
        self.shears: list[Shear] = []

    @property
    def here(self) -> Shift:
        """The shift by no position, on every axis."""
        return (0,) * len(self.size)

    def add(self, *functionals: tuple[int, Taps, float]) -> None:
        """Add to channels sums of taps and a bias; act(t) - act(-t) is linear, so two hidden channels do each."""
        hidden = [
            Hidden(
                {key: sign * v / self.slope for key, v in taps.items()}, sign * bias / self.slope, sign * self.eye[i]
            )
            for i, taps, bias in functionals
            for sign in (1, -1)
        ]
        self._append(hidden)

    def add_neuron(self, taps: Taps, bias: float, outgoing: Tensor) -> None:
        """Add a neuron to the last channels, with a weight for each."""
        self._append([Hidden(taps, bias, outgoing @ self.eye[-len(outgoing) :])])

    def add_far(self, target: int, source: int, shift: Shift, weight: float, scratch: int) -> None:
        """Add a channel shifted by more than one position to another one: a commutator of shorter shifts.

        scratch -= w S^b source, target -= S^a scratch, scratch += w S^b source, target += S^a scratch adds w S^(a + b)
        source to the target and leaves the scratch channel as it was, whatever it holds.
        """
        if max(map(abs, shift)) <= 1:
            self.add((target, {(source, shift): weight}, 0.0))
            return
        a = tuple(int(s / 2) for s in shift)
        b = tuple(s - half for s, half in zip(shift, a, strict=True))
        for sign in (-1, 1):
            self.add_far(scratch, source, b, sign * weight, target)
            self.add_far(target, scratch, a, sign, source)

    def _append(self, hidden: Sequence[Hidden]) -> None:
        self.shears.append(Shear("map", lambda weight: self._block(hidden, weight)))

    def _block(self, hidden: Sequence[Hidden], weight: float) -> nn.Module:
        convolution = _CONVOLUTIONS[len(self.size) - 1]
        first = convolution(self.channels, len(hidden), 3, padding=1, padding_mode=self.padding).to(self.eye)
        first.weight.zero_()
        bias = torch.tensor([unit.bias for unit in hidden], dtype=self.eye.dtype, device=self.eye.device)
        first.bias = nn.Parameter(bias)
        for h, unit in enumerate(hidden):
            for (channel, shift), value in unit.taps.items():
                first.weight[(h, channel, *(s + 1 for s in shift))] += value
        outgoing = torch.stack([weight * unit.outgoing for unit in hidden], dim=1)
        return nn.Sequential(first, self.activation, place(outgoing, len(self.size)))


def place(matrix: Tensor, axes: int) -> nn.Module:
    """The convolution of one tap that multiplies the channels of each position by a matrix."""
    layer = _CONVOLUTIONS[axes - 1](matrix.shape[1], matrix.shape[0], 1, bias=False).to(matrix)
    layer.weight.copy_(matrix.reshape(*matrix.shape, *[1] * axes))
    return layer


class Bounded(nn.Module):
    """The identity on inputs whose entries are at most a radius."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, u: Tensor) -> Tensor:
        """The input; raises MinimandError beyond the radius."""
        largest = float(u.abs().max())
        if largest > self.radius:
            raise MinimandError(
                f"the largest entry of the input is {largest:.3g}; the network is exact up to {self.radius:g}. Give "
                "the ShallowConvolution a larger radius."
            )
        return u


def closed_path(size: Shift) -> list[Shift]:
    """Steps of at most one position on an axis that come through every shift once, around, and back to the first.

    The last axis steps each time, another one where those after it have come around.
    """
    steps, turns = [], [1] * len(size)
    for axis in reversed(range(len(size) - 1)):
        turns[axis] = turns[axis + 1] * size[axis + 1]
    for t in range(1, turns[0] * size[0] + 1):
        steps.append(tuple(int(t % turn == 0) for turn in turns))
    return steps
