"""Telgarsky's sawtooth, over teeth, width and depth (Wu et al. 2024)."""

import torch

from ..._support.style import COLORS, legend_below, new_figure, plain
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values, draw_sweep
from ...experiments.trained import SKELETONS, seeded_network, train
from ...recipes import AdamW, Cosine, Recipe, as_config

_ERROR = Column("mse", "test MSE", 5)
_SHOWN = 257  # points of a drawn function


def _cells(scale: Scale) -> list[Cell]:
    points, epochs = (33, 5) if scale == "smoke" else (513, 600) if scale == "cpu" else (2049, 3000)
    recipe = Recipe(epochs, points, AdamW(5e-3, weight_decay=0.0), Cosine(), clip=1.0)
    return [
        {"folds": folds, "hidden": hidden, "depth": depth, "algorithm": algorithm, "width": 8, "points": points}
        | {"size": f"{folds} folds, {hidden} hidden units", "recipe": as_config(recipe)}
        for folds in ((2,) if scale == "smoke" else (3, 4))
        for hidden in ((4,) if scale == "smoke" else (4, 16))
        for depth in ((4,) if scale == "smoke" else (4, 8, 16))
        for algorithm in SKELETONS
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data(f"telgarsky(folds={cell['folds']}, points={cell['points']})")
    name = f"mlp(width={cell['width']}, depth={cell['depth']}, hidden={cell['hidden']})"
    model = seeded_network(name, data, cell, seed)
    result = train(model, data, cell, seed, bench, resume=False)
    values: Values = {"mse": result.test_loss}
    if seed == 0:
        with torch.no_grad():
            fitted = model.eval()(torch.linspace(0, 1, _SHOWN, device=bench.device)[:, None])
        values["fitted"] = [round(v, 3) for v in fitted[:, 0].tolist()]
    return values


def _figures(measurements: Measurements) -> FiguresByCaption:
    deepest = max(m.cell["depth"] for m in measurements)
    shown = [m for m in measurements if "fitted" in m.values and m.cell["depth"] == deepest]
    sizes = list(dict.fromkeys(m.cell["size"] for m in shown))
    figure = new_figure(9, 1.2 + 1.7 * len(sizes))
    x = torch.linspace(0, 1, _SHOWN)
    for axes, size in zip(figure.subplots(len(sizes), 1, sharex=True, squeeze=False)[:, 0], sizes, strict=True):
        plain(axes)
        of_size = [m for m in shown if m.cell["size"] == size]
        target = x
        for _ in range(of_size[0].cell["folds"]):
            target = 1 - (2 * target - 1).abs()
        axes.plot(x, target, color="black", linewidth=2.5, alpha=0.25, label="target")
        for m, color in zip(of_size, COLORS, strict=False):
            axes.plot(x, m.values["fitted"], color=color, linewidth=1, label=m.cell["algorithm"])
        axes.set_title(f"{size}, {deepest} layers", fontsize=8)
        axes.set_ylim(-0.25, 1.25)
    legend_below(figure, columns=3)
    return {
        "Test MSE against depth: mean and range over seeds": draw_sweep(measurements, _ERROR, "size"),
        "Fitted functions, seed 0": figure,
    }


STUDY = Study(
    "telgarsky",
    "Telgarsky's sawtooth over teeth, width and depth (Wu et al. 2024)",
    "The tent map 1 - |2 x - 1| composed k times on [0, 1] has 2^(k - 1) teeth; 513 points of an even grid to train "
    "on, the points halfway between them to test. Predicting 1/2 scores 1/12 = 0.0833. A linear stem to 8 entries, "
    "blocks 8 - h - 8 with ReLU under the residual binding, a linear head; k, h and the depth are swept from where no "
    "skeleton learns the function to where all do. Full batches, 600 epochs of Adam at 5e-3 with a cosine, gradients "
    "clipped to norm 1.\n\n"
    "Wu et al. report lower errors than ResNet's for their networks; their numbers and sizes are not known here.",
    ("wu2024optdnn", "telgarsky2016benefits"),
    _cells,
    _measure,
    ("folds", "hidden", "depth", "algorithm"),
    (_ERROR,),
    figures=_figures,
)
