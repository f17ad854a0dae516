"""Two spirals."""

import math

import torch

from minimand.data import Arrays, Data, DataSet
from minimand.data.registry import DATA


def spirals(samples: int = 400, turns: float = 1.5, noise: float = 0.02) -> Data:
    """Two spirals in the plane, one turned by half a circle against the other; as many points again for the test."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> Arrays:
        classes = torch.arange(samples) % 2
        radius = torch.rand(samples, generator=generator).sqrt()
        angle = 2 * math.pi * turns * radius + math.pi * classes
        points = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
        return Arrays(points + noise * torch.randn(points.shape, generator=generator), classes)

    return Data("spirals", draw(), draw(), shape=(2,), classes=("first", "second"), source="drawn with seed 0")


SPIRALS = DATA.add("spirals", DataSet(spirals))
