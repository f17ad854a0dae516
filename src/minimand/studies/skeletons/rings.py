"""Nested rings: accuracy, margin and decision boundary (Wu et al. 2024)."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from ..._support.style import new_figure
from ...data import Arrays, Data
from ...data.sets.nested_rings import nested_rings
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...experiments.trained import PARAMETERS, SKELETONS, train
from ...networks import count_parameters, unroll
from ...recipes import AdamW, Cosine, Recipe, as_config

_ALGORITHMS = (*SKELETONS, "linearized_admm")
_SIDE = 4.0  # the figure shows the square [-4, 4]^2
_SHOWN = 60  # points on a side of the drawn grid


def _cells(scale: Scale) -> list[Cell]:
    samples, epochs = (200, 2) if scale == "smoke" else (2000, 25) if scale == "cpu" else (4000, 100)
    recipe = Recipe(epochs, 125 if scale != "smoke" else 50, AdamW(5e-3, weight_decay=0.0), Cosine(), clip=1.0)
    return [
        {"algorithm": algorithm, "depth": depth, "hidden": 16, "samples": samples, "recipe": as_config(recipe)}
        for depth in ((3,) if scale == "smoke" else (5, 15))
        for algorithm in _ALGORITHMS
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = nested_rings(cell["samples"], seed)
    stage = network(cell, seed)
    result = train(stage, data, cell, seed, bench, resume=False)
    values: Values = {"accuracy": result.test_accuracy, "margin": margin_on(stage, data)}
    values["parameters"] = count_parameters(stage)
    if seed == 0:
        values["boundary"] = [round(v, 2) for v in _gap(stage, _grid(_SHOWN)).clamp(-99, 99).tolist()]
    return values


def network(cell: Cell, seed: int) -> nn.Module:
    """The narrow network of a cell, whose weights are drawn from the seed."""
    hidden, depth = cell["hidden"], cell["depth"]

    def blocks() -> list[nn.Module]:
        return [nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2)) for _ in range(depth)]

    torch.manual_seed(seed)
    if cell["algorithm"] == "linearized_admm":
        pairs = [{"gradient_f": f, "gradient_g": g} for f, g in zip(blocks(), blocks(), strict=True)]
        return unroll(cell["algorithm"], pairs)
    return unroll(cell["algorithm"], blocks())


def margin_on(stage: nn.Module, data: Data) -> float:
    """The margin of a network on the test samples of the rings."""
    return _margin(stage, *_points(data))


def _points(data: Data) -> tuple[Tensor, Tensor]:
    samples = cast(Arrays, data.test)
    return samples.inputs, samples.targets


@torch.no_grad()
def _gap(stage: nn.Module, points: Tensor) -> Tensor:
    """Logit of the outer ring less that of the inner one: (N, 2) to (N,)."""
    logits = stage.eval()(points.to(next(stage.parameters()).device)).cpu()
    return logits[:, 1] - logits[:, 0]


def _grid(side: int) -> Tensor:
    line = torch.linspace(-_SIDE, _SIDE, side)
    return torch.cartesian_prod(line, line)


def _margin(stage: nn.Module, points: Tensor, targets: Tensor, side: int = 400) -> float:
    """The least distance from a sample to a point that is taken for the other ring; 0 if a sample is."""
    grid = _grid(side)
    taken, right = _gap(stage, grid) > 0, (_gap(stage, points) > 0) == targets.bool()
    if not right.all():
        return 0.0
    margins = []
    for ring in (False, True):
        samples, outside = points[targets.bool() == ring], grid[taken != ring]
        margins.append(float(torch.cdist(samples, outside).min()) if len(outside) else math.inf)
    return min(margins)


def _figures(measurements: Measurements) -> FiguresByCaption:
    shown = [m for m in measurements if "boundary" in m.values]
    depths = sorted({m.cell["depth"] for m in shown})
    figure = new_figure(2.2 * len(_ALGORITHMS), 2.5 * len(depths))
    inputs, targets = _points(nested_rings(300, 0))
    for row, depth in zip(figure.subplots(len(depths), len(_ALGORITHMS), squeeze=False), depths, strict=True):
        for axes, algorithm in zip(row, _ALGORITHMS, strict=True):
            axes.set(xticks=[], yticks=[], aspect="equal")
            axes.set_title(f"{algorithm}\n{depth} layers", fontsize=7)
            here = [m for m in shown if (m.cell["depth"], m.cell["algorithm"]) == (depth, algorithm)]
            if not here:
                continue
            gap = torch.tensor(here[0].values["boundary"]).view(_SHOWN, _SHOWN).T.numpy()
            extent = (-_SIDE, _SIDE, -_SIDE, _SIDE)
            axes.imshow(gap, extent=extent, origin="lower", cmap="RdBu", vmin=-8, vmax=8, interpolation="bilinear")
            axes.contour(gap, levels=[0], extent=extent, colors="black", linewidths=0.8)
            axes.scatter(*inputs.T.numpy(), c=targets.numpy(), cmap="RdBu", s=2, edgecolors="none", vmin=-0.3, vmax=1.3)
    return {"Decision boundaries, seed 0: blue is taken for the outer ring, red for the inner one": figure}


STUDY = Study(
    "rings",
    "Nested rings: accuracy, margin and decision boundary of narrow networks (Wu et al. 2024)",
    "The state has two entries, which are the logits, and each layer has a block of its own, 2 - 16 - 2 with tanh, "
    "under the residual binding: nothing but the skeleton differs (linearized ADMM has two blocks a layer). The margin "
    "is the least distance in the plane from a test sample to a point taken for the other ring; no classifier can have "
    "more than about 0.45, half the gap between the rings, and a single misclassified sample makes it 0.\n\n"
    "Wu et al. report larger margins than ResNet's for their networks; their numbers, widths, depths and data are not "
    "known here. The rings are those of Sander et al. 2021; sizes and recipe are ours.",
    ("wu2024optdnn", "sander2021momentum"),
    _cells,
    _measure,
    ("algorithm", "depth"),
    (Column("margin", "margin", 3), Column("accuracy", "test accuracy %", 2, 100), PARAMETERS),
    figures=_figures,
)
