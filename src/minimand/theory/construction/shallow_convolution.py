"""The shallow networks on images that convolutional blocks rewrite: one hidden layer that sees all positions."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError, unknown_name


def check_positive(**counts: int) -> None:
    """Raise MinimandError unless each of the counts, by name, is at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise MinimandError(f"{name} is {count}; expected at least 1.")


Shift = tuple[int, ...]
"""A shift by a number of positions on each axis; also a position."""


class ShallowConvolution(nn.Module):
    """One hidden layer on images of one size, each neuron of which sees all positions.

    `circular`: F(u)(p) = sum_j a_j act(b_j + sum_r w_j(r) u(p + r)), r over all shifts, positions counted around; these
    commute with shifts. `zeros`: the neurons of a position have weights of their own, F(u)(p) = sum_j a_j(p)
    act(b_j(p) + sum_q w_j(p, q) u(q)): any map of images of this size. Inputs are (N, in_channels, *size), outputs
    (N, out_channels, *size).

    Args:
        in_channels: the channels of the input.
        out_channels: the channels of the output.
        neurons: the number of neurons j.
        size: the positions on each axis, of one to three axes.
        activation: acts number by number; ReLU by default.
        padding: `circular` or `zeros`, that of the deep network's convolutions.
        radius: of `zeros`, the largest entry of inputs for which the deep network is to be exact.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        neurons: int,
        size: Sequence[int],
        activation: nn.Module | None = None,
        padding: Literal["circular", "zeros"] = "circular",
        radius: float = 4.0,
    ) -> None:
        super().__init__()
        if padding not in ("circular", "zeros"):
            raise unknown_name("padding of ShallowConvolution", str(padding), ("circular", "zeros"))
        if not isinstance(size, Sequence) or not 1 <= len(size) <= 3 or min(size) < 1:
            raise MinimandError(f"size is {size}; expected one to three numbers of positions, such as (4, 4).")
        check_positive(in_channels=in_channels, out_channels=out_channels, neurons=neurons)
        self.size, self.activation, self.radius = tuple(size), activation or nn.ReLU(), radius
        self.padding: Literal["circular", "zeros"] = padding
        own = () if padding == "circular" else self.size
        scale = math.sqrt(in_channels * math.prod(self.size))
        self.weight = nn.Parameter(torch.randn(neurons, *own, in_channels, *self.size) / scale)
        self.bias = nn.Parameter(torch.randn(neurons, *own))
        self.outgoing = nn.Parameter(torch.randn(out_channels, neurons, *own) / neurons)

    def forward(self, u: Tensor) -> Tensor:
        """The outputs of the shallow network at all positions of u, (N, C, ...)."""
        if self.padding == "zeros":
            before = torch.einsum("bi,n...i->bn...", u.flatten(1), self.weight.flatten(-1 - len(self.size)))
            return torch.einsum("on...,bn...->bo...", self.outgoing, self.activation(before + self.bias))
        axes = list(range(2, 2 + len(self.size)))
        before = self.bias.reshape(1, -1, *[1] * len(self.size))
        for r in product(*map(range, self.size)):
            weight = self.weight[(slice(None), slice(None), *r)]
            before = before + torch.einsum("nc,bc...->bn...", weight, u.roll([-s for s in r], axes))
        return torch.einsum("on,bn...->bo...", self.outgoing, self.activation(before))
