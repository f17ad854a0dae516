"""Nested rings, which no flow in the plane can separate (Sander et al. 2021)."""

import math

import torch

from ..._support.checks import check_number
from ..data import Data
from ..registry import data_set
from ..samples import Arrays


@data_set("nested_rings", "sander2021momentum")
def nested_rings(samples: int = 4000, seed: int = 0) -> Data:
    """Two rings in the plane, one inside the other (Sander et al. 2021): radius 3 (r + 0.2 U[0, 1]), r = 0.5 or 1.

    Both parts, training and test, have so many samples, of both classes equally often.
    """
    check_number("samples", samples, 1, math.inf, whole=True)
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Arrays:
        targets = torch.arange(samples) % 2
        noise, turn = torch.rand(2, samples, generator=generator)
        radius = 3 * (0.5 + 0.5 * targets + 0.2 * noise)
        angle = 2 * torch.pi * turn
        return Arrays(torch.stack([radius * angle.cos(), radius * angle.sin()], 1), targets)

    return Data("nested_rings", draw(), draw(), (2,), classes=("inner", "outer"), source="a draw")
