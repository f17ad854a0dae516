"""Why depth makes gradients explode and vanish at once: a chain of equal weights (Sun 2019, section 4)."""

import math
from functools import cache

import torch
from torch import Tensor

from ..._support.style import COLORS, new_figure, plain
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values

_STARTS = (0.9, 1.1)
_LOSS, _LIMIT = 1e-3, 30_000  # gradient descent has arrived at this loss, or is given up after these iterations


def _cells(scale: Scale) -> list[Cell]:
    return [{"layers": layers} for layers in ((7, 10) if scale == "smoke" else (7, 10, 20, 30, 50, 100))]


def _loss(w: Tensor, layers: int) -> Tensor:
    return (w**layers - 1) ** 2


def _slope(w: float, layers: int) -> float:
    at = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(_loss(at, layers), at)[0])


def _curvature(layers: int) -> float:
    at = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(_loss(at, layers), at, create_graph=True)
    return float(torch.autograd.grad(slope, at)[0])


@cache  # the same for every seed
def _iterations(layers: int) -> int | None:
    """The iterations of gradient descent from the worst start at the best constant step; None if they are too many.

    From one start alone some step jumps into the minimum at once; many ask for one that suits steep and flat parts.
    """
    # No larger step is stable at the minimum.
    steps = 2 / _curvature(layers) * 0.95 ** torch.arange(1, 400, dtype=torch.float64)
    w = torch.linspace(*_STARTS, 21, dtype=torch.float64)[:, None].expand(-1, len(steps)).clone()
    for iteration in range(_LIMIT):
        if (_loss(w, layers) < _LOSS).all(0).any():
            return iteration
        w -= steps * 2 * layers * (w**layers - 1) * w ** (layers - 1)
        stays = (w.abs() < 2).all(0)
        w, steps = w[:, stays], steps[stays]
    return None


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    layers = cell["layers"]
    return {
        "flat": _slope(0.8, layers),
        "steep": _slope(1.2, layers),
        "curvature": _curvature(layers),
        "derived": 2 * layers**2,
        "width": 2 ** (1 / layers) - 2 ** (-1 / layers),
        "approximation": 2 * math.log(2) / layers,
        "iterations": _iterations(layers) or f"over {_LIMIT:,}",
    }


def _figures(measurements: Measurements) -> FiguresByCaption:
    figure = new_figure(9, 3.4)
    landscape, slope = map(plain, figure.subplots(1, 2))
    w = torch.linspace(0, 1.4, 701, dtype=torch.float64)
    for layers, color in zip(dict.fromkeys(m.cell["layers"] for m in measurements), COLORS, strict=False):
        landscape.plot(w, _loss(w, layers), color=color, label=f"{layers} layers")
        slope.semilogy(w, (2 * layers * (w**layers - 1) * w ** (layers - 1)).abs(), color=color)
    landscape.set(ylim=(0, 2), xlim=(0, 1.4), xlabel="w", ylabel="loss (w^L - 1)^2")
    slope.set(ylim=(1e-8, 1e12), xlim=(0.4, 1.4), xlabel="w", ylabel="size of the slope")
    landscape.legend(frameon=False, fontsize=8, loc="upper left")
    return {"The loss along w: a plateau, a valley that narrows with depth, a wall; and its slope": figure}


STUDY = Study(
    "explosion",
    "A chain of equal weights: a plateau, a narrow valley and a wall (Sun 2019, section 4)",
    "The loss (w_1 ... w_L - 1)^2 of L linear layers of one unit, along w_1 = ... = w_L = w, where it is (w^L - 1)^2. "
    "Slopes and curvature are torch's, in float64; beside the curvature stands 2 L^2, and beside the width of the "
    "valley, where w^L is between 1/2 and 2, its approximation 2 ln 2 / L. The last column is how many iterations "
    f"gradient descent along w needs until the loss is below {_LOSS:g} from the worst of 21 starts from {_STARTS[0]} "
    f"to {_STARTS[1]}, at the constant step that is best for that, of a grid 5 % apart. Nothing is random: the seeds "
    "agree.\n\n"
    "The survey shows the landscape as a picture, which was not at hand to compare with.",
    ("sun2019optimization",),
    _cells,
    _measure,
    ("layers",),
    (
        Column("flat", "slope at 0.8", 2, style="e"),
        Column("steep", "slope at 1.2", 2, style="e"),
        Column("curvature", "curvature at 1", 0),
        Column("derived", "2 L^2", 0),
        Column("width", "width of the valley", 4),
        Column("approximation", "2 ln 2 / L", 4),
        Column("iterations", "iterations", 0),
    ),
    published=None,
    figures=_figures,
)
