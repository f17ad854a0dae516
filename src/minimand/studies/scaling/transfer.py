"""Loss against learning rate over depths and widths, with and without a scaling rule."""

import math
import statistics
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.style import COLORS, INK, legend_below, new_figure, plain
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...networks import unroll
from ...recipes import AdamW, Recipe, StepDecay
from ...trainability import initialize
from ...training import NonFiniteLossError, fit

_ALGORITHMS = ("gradient_descent", "heavy_ball(momentum=0.9)")
_RULES = {"none": "kaiming", "1 / depth": "kaiming", "complete_p": "complete_p"}
_JUDGED = 20  # the last steps, over which the loss is averaged
_DEPTH, _WIDTH = 8, 64


class Branch(nn.Module):
    """LayerNorm, linear, ReLU, linear, over a number: (N, width) to the same."""

    def __init__(self, width: int, by: float) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(self.norm(x)).relu()) / self.by


def _cells(scale: Scale) -> list[Cell]:
    depths, widths, exponents, epochs = {
        "smoke": ((2, 4), (16, 32), (-9, -6), 3),
        "cpu": ((4, 16, 48), (32, 128, 256), tuple(range(-11, -3)), 9),
        "paper": ((4, 16, 64, 256), (32, 128, 512, 2048), tuple(range(-13, -2)), 90),
    }[scale]
    sizes = [("depth", depth, _WIDTH) for depth in depths] + [("width", _DEPTH, width) for width in widths]
    return [
        {"axis": axis, "algorithm": algorithm, "rule": rule, "depth": depth, "width": width}
        | {"exponents": list(exponents), "epochs": epochs}
        for axis, depth, width in sizes
        for algorithm in _ALGORITHMS
        for rule in _RULES
    ]


def _network(cell: Cell, seed: int, inputs: int, classes: int) -> nn.Module:
    torch.manual_seed(seed)
    width, depth = cell["width"], cell["depth"]
    by = depth if cell["rule"] == "1 / depth" else 1
    stage = unroll(cell["algorithm"], [Branch(width, by) for _ in range(depth)])
    model = nn.Sequential(nn.Linear(inputs, width), stage, nn.LayerNorm(width), nn.Linear(width, classes))
    initialize(model, _RULES[cell["rule"]], batch=torch.randn(8, inputs))
    return model


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data("digits")
    inputs = math.prod(data.shape)
    losses: list[float | None] = []
    for exponent in cell["exponents"]:
        recipe = Recipe(cell["epochs"], 128, AdamW(2.0**exponent, (0.9, 0.95), 0.0), StepDecay(at=()))
        model = nn.Sequential(nn.Flatten(), _network(cell, seed, inputs, len(data.classes)))
        steps: list[float] = []
        try:
            fit(
                model,
                data,
                recipe=recipe,
                seed=seed,
                device=bench.device,
                callbacks=[_losses_into(steps)],
                progress=False,
            )
        except NonFiniteLossError:
            losses.append(None)
        else:
            losses.append(statistics.mean(steps[-_JUDGED:]))
    trained = {e: loss for e, loss in zip(cell["exponents"], losses, strict=True) if loss is not None}
    if not trained:
        return {"diverged": 1}
    best = min(trained, key=lambda e: trained[e])
    return {"exponent": best, "loss": trained[best], "losses": losses}


def _losses_into(steps: list[float]) -> Any:
    def note(event: Any) -> None:
        if type(event).__name__ == "StepDone":
            steps.append(event.loss)

    return note


def _figures(measurements: Measurements) -> FiguresByCaption:
    figures = {}
    for axis in ("depth", "width"):
        shown = [m for m in measurements if m.cell["axis"] == axis and "losses" in m.values]
        sizes = sorted({m.cell[axis] for m in shown})
        figure = new_figure(3.0 * len(_RULES), 2.6 * len(_ALGORITHMS) + 0.3)
        panels = figure.subplots(len(_ALGORITHMS), len(_RULES), sharex=True, sharey=True, squeeze=False)
        for row, algorithm in zip(panels, _ALGORITHMS, strict=True):
            for axes, rule in zip(row, _RULES, strict=True):
                plain(axes)
                for size, color in zip(sizes, COLORS, strict=False):
                    here = [
                        m
                        for m in shown
                        if (m.cell["algorithm"], m.cell["rule"], m.cell[axis]) == (algorithm, rule, size)
                    ]
                    for m in here:
                        points = [(e, v) for e, v in zip(m.cell["exponents"], m.values["losses"], strict=True) if v]
                        label = f"{axis} {size}" if m is here[0] else None
                        axes.plot(*zip(*points, strict=True), "o-", color=color, markersize=3, alpha=0.8, label=label)
                axes.set_yscale("log")
                axes.set_title(f"{algorithm}\n{rule}", fontsize=8, color=INK)
        for axes in panels[-1]:
            axes.set_xlabel("log2 of the learning rate", fontsize=8)
        for axes in panels[:, 0]:
            axes.set_ylabel("training loss", fontsize=8)
        legend_below(figure, columns=len(sizes))
        figures[f"Training loss of the last {_JUDGED} steps against the learning rate, over {axis}"] = figure
    return figures


STUDY = Study(
    "transfer",
    "One learning rate for every depth, width and skeleton (after Yang et al. 2022, Dey et al. 2025)",
    "Networks on the digits whose branches are LayerNorm - linear - ReLU - linear, wired by gradient descent or by "
    "heavy ball at 0.9, are trained for about 100 steps by Adam at a constant rate; the loss is that of the last 20. "
    "Without a rule branches are of order 1; with `1 / depth` each is over the number of layers, which is right for "
    "ResNet; `complete_p` divides by the sum of the skeleton's gains, and hidden rates by the width. Widths are "
    "compared at 8 layers, depths at width 64. A rule works where the best rate is the same in a column.\n\n"
    "Dey et al. report the same for language models of 2 to 64 layers (found); skeletons other than ResNet's are ours.",
    ("yang2022tensor", "dey2025completep"),
    _cells,
    _measure,
    ("algorithm", "rule", "depth", "width"),
    (Column("exponent", "log2 of the best rate", 1), Column("loss", "loss there", 3)),
    published=None,
    figures=_figures,
)
