"""The tent map composed with itself, which deep networks fit with few units (Telgarsky 2016)."""

import math

import torch

from ..._support.checks import check_number
from ..data import Data
from ..registry import data_set
from ..samples import Arrays


@data_set("telgarsky", "telgarsky2016benefits")
def telgarsky(folds: int = 3, points: int = 513) -> Data:
    """The tent map 1 - |2 x - 1| composed `folds` times on [0, 1], a regression (Telgarsky, 2016).

    The map has 2^(folds - 1) teeth: few layers need exponentially many units for it. Training points lie on an even
    grid, test points halfway between them. Predicting 1/2 has the squared error 1/12.
    """
    check_number("folds", folds, 1, math.inf, whole=True)
    check_number("points", points, 2, math.inf, whole=True)
    grid = torch.linspace(0, 1, points)

    def fold(x: torch.Tensor) -> Arrays:
        y = x
        for _ in range(folds):
            y = 1 - (2 * y - 1).abs()
        return Arrays(x[:, None], y[:, None])

    train, test = fold(grid), fold((grid[1:] + grid[:-1]) / 2)
    return Data("telgarsky", train, test, (1,), "regression", source="a grid")
