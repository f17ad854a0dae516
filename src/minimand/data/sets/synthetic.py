"""Made-up tasks whose difficulty is known."""

from itertools import product

import torch

from ..._support.errors import MinimandError
from ..data import Data
from ..samples import Arrays


def nested_rings(samples: int = 4000, seed: int = 0) -> Data:
    """Two rings in the plane, one inside the other (Sander et al. 2021): radius 3 (r + 0.2 U[0, 1]), r = 0.5 or 1.

    Args:
        samples: of each part, training and test; both classes equally often.
        seed: of the draw.
    """
    _positive("samples", samples)
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Arrays:
        targets = torch.arange(samples) % 2
        noise, turn = torch.rand(2, samples, generator=generator)
        radius = 3 * (0.5 + 0.5 * targets + 0.2 * noise)
        angle = 2 * torch.pi * turn
        return Arrays(torch.stack([radius * angle.cos(), radius * angle.sin()], 1), targets)

    return Data("nested_rings", draw(), draw(), (2,), classes=("inner", "outer"), source="a draw")


def parity(bits: int = 8) -> Data:
    """Whether the number of ones among `bits` entries of -1 and 1 is odd. All 2^bits points, for training and test."""
    _positive("bits", bits)
    if bits > 20:
        raise MinimandError(f"bits is {bits}; expected 1 to 20.")
    points = torch.tensor(list(product((-1.0, 1.0), repeat=bits)))
    samples = Arrays(points, (points > 0).sum(1) % 2)
    return Data("parity", samples, samples, (bits,), classes=("even", "odd"), source="all points")


def telgarsky(folds: int = 3, points: int = 513) -> Data:
    """The tent map 1 - |2 x - 1| composed `folds` times on [0, 1], a regression (Telgarsky, 2016).

    It has 2^(folds - 1) teeth: few layers need exponentially many units for it. Training points lie on an even
    grid, test points halfway between them. Predicting 1/2 has the squared error 1/12.
    """
    _positive("folds", folds)
    _positive("points", points)
    if points < 2:
        raise MinimandError(f"points is {points}; expected at least 2.")
    grid = torch.linspace(0, 1, points)

    def fold(x: torch.Tensor) -> Arrays:
        y = x
        for _ in range(folds):
            y = 1 - (2 * y - 1).abs()
        return Arrays(x[:, None], y[:, None])

    train, test = fold(grid), fold((grid[1:] + grid[:-1]) / 2)
    return Data("telgarsky", train, test, (1,), "regression", source="a grid")


def _positive(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise MinimandError(f"{name} is {value!r}; expected an integer of at least 1.")
