"""Training error against depth in the simulation of Li et al. 2018, their table 2."""

import torch
from torch import nn

from ..._support.style import COLORS, new_figure, plain
from ...data import Arrays, Data
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values, values_by
from ...experiments.trained import train
from ...networks import unroll
from ...recipes import AdamW, Cosine, Recipe, as_config

_DIMENSION = 100
# Equations (14), (7), (11), (12), (13), each with the exact coefficients that the paper says.
_ALGORITHMS = {
    "ADMM": "shared_admm",
    "GD": "gradient_descent",
    "HB": "heavy_ball(momentum=0.3)",
    "AGD": "fista",
    "AGD2": "dense_nesterov",
}
_PUBLISHED = {
    10: (1.07576, 1.00644, 1.00443, 1.00270, 1.00745),
    20: (1.07495, 1.00679, 1.00449, 1.00215, 1.00227),
    30: (1.07665, 1.00652, 1.00455, 1.00204, 1.00086),
    40: (1.07749, 1.00653, 1.00457, 1.00213, 0.99964),
}
_ERROR = Column("mse", "training MSE", 5)
_EPOCHS: dict[Scale, int] = {"smoke": 1, "cpu": 10, "paper": 1000}


def _cells(scale: Scale) -> list[Cell]:
    pairs, batch = (500, 100) if scale == "smoke" else (10_000, 100)
    recipe = Recipe(_EPOCHS[scale], batch, AdamW(1e-3, weight_decay=0.0), Cosine())
    depths = (2, 4) if scale == "smoke" else tuple(_PUBLISHED)
    return [
        {"network": name, "depth": depth, "algorithm": algorithm, "pairs": pairs, "recipe": as_config(recipe)}
        for depth in depths
        for name, algorithm in _ALGORITHMS.items()
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    generator = torch.Generator().manual_seed(seed)
    x, f = torch.randn(2, cell["pairs"], _DIMENSION, generator=generator)
    pairs = Arrays(x, f)
    data = Data("independent pairs", pairs, pairs, (_DIMENSION,), "regression", outputs=_DIMENSION)
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Linear(_DIMENSION, _DIMENSION, bias=False), nn.Sigmoid()) for _ in range(cell["depth"])]
    result = train(unroll(cell["algorithm"], blocks, "operator"), data, cell, seed, bench, resume=False)
    return {"mse": result.test_loss, "zero": float(f.square().mean())}


def _published(cell: Cell) -> str:
    row = _PUBLISHED.get(cell["depth"])
    return f"{row[list(_ALGORITHMS).index(cell['network'])]:.5f}" if row else ""


def _figures(measurements: Measurements) -> FiguresByCaption:
    figure = new_figure(9, 3.2)
    ours, theirs = figure.subplots(1, 2)
    errors = values_by(measurements, _ERROR, ("network", "depth"))
    for i, (name, color) in enumerate(zip(_ALGORITHMS, COLORS, strict=False)):
        depths = sorted(depth for network, depth in errors if network == name)
        means = [sum(errors[name, depth]) / len(errors[name, depth]) for depth in depths]
        ours.plot(depths, means, "o-", color=color, label=name)
        theirs.plot(list(_PUBLISHED), [row[i] for row in _PUBLISHED.values()], "o-", color=color)
    for axes, title in ((plain(ours), "here"), (plain(theirs), "published")):
        axes.set(xlabel="depth", ylabel="training MSE")
        axes.set_title(title, fontsize=9)
    ours.legend(frameon=False, fontsize=8)
    return {"Training MSE against depth, here (mean over seeds) and as published": figure}


STUDY = Study(
    "simulation",
    "Training error of fully connected networks against depth (Li et al. 2018, section 5.1)",
    "Pairs (x, f) are independent standard normal vectors of 100 entries, layers are 100 x 100 with a sigmoid and "
    "without weights in common, and the loss is the mean squared error. What it measures: as f does not depend on x, "
    "predicting 0 scores 1.000, and all published entries but one are worse than that. The table ranks how easily a "
    "structure can be trained to put out almost nothing, and then to fit noise; it says nothing on accuracy.\n\n"
    "The paper does not name its optimizer, learning rate, batch size or initialization. Here: Adam at 1e-3 with a "
    "cosine, batches of 100, torch's initialization, no bias; 10 epochs at cpu scale, 1000 as published at paper "
    "scale. The ranking depends on these choices. ADMM reads out the stream x, as its formula has it, with one matrix "
    "for both streams.",
    ("li2018optimization",),
    _cells,
    _measure,
    ("network", "depth"),
    (_ERROR, Column("zero", "predicting 0", 5)),
    _published,
    _figures,
)
