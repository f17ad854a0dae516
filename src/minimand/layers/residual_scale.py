"""What residual networks without normalization have in its place: a scale on each branch, scalar biases."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from .._support.errors import MinimandError, unknown_name

ScaleMode = Literal["skipinit", "rezero", "fixup", "depth"]

_SOURCES = {
    "skipinit": "de2020skipinit",
    "rezero": "bachlechner2021rezero",
    "fixup": "zhang2019fixup",
    "depth": "hanin2018start",
}


class ResidualScale(nn.Module):
    """A branch scaled by one number a, T(x) = a branch(x): (N, ...) as the branch.

    "skipinit" and "rezero" learn a from 0, "fixup" from 1 (De & Smith 2020; Bachlechner et al. 2021; Zhang et al.
    2019); "depth" keeps it at 1 / sqrt(blocks), by the number of blocks of the network (Hanin & Rolnick 2018).
    """

    scale: Tensor

    def __init__(self, branch: nn.Module, mode: ScaleMode = "skipinit", blocks: int | None = None) -> None:
        super().__init__()
        if mode not in _SOURCES:
            raise unknown_name("mode of a residual scale", mode, _SOURCES)
        self.branch, self.mode = branch, mode
        if mode != "depth":
            self.scale = nn.Parameter(torch.tensor(1.0 if mode == "fixup" else 0.0))
        elif blocks is None or blocks < 1:
            raise MinimandError(f"blocks is {blocks}; mode='depth' needs the number of blocks, at least 1.")
        else:
            self.register_buffer("scale", torch.tensor(1 / math.sqrt(blocks)))

    @property
    def references(self) -> tuple[str, ...]:
        return (_SOURCES[self.mode],)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.branch(x)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}"


class ScalarBias(nn.Module):
    """A bias of one number, 0 at first: what Fixup puts before convolutions, linear maps and activations."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias
