"""Batch normalization without skips makes gradients explode (Yang et al. 2019)."""

import math

import torch
from torch import nn

from ..._support.style import COLORS, one_panel
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values

_ACTIVATIONS = {"ReLU": nn.ReLU, "linear": nn.Identity}
_ENDS = 4  # layers at either end that do not count: signals there are not like those in the middle


def _cells(scale: Scale) -> list[Cell]:
    width, depth = {"smoke": (64, 12), "cpu": (512, 24), "paper": (1000, 50)}[scale]
    batches = (4, 8) if scale == "smoke" else (4, 8, 16, 32, 64, 128, 256)
    settings = {"width": width, "depth": depth}
    return [{"activation": name, "batch": batch, **settings} for name in _ACTIVATIONS for batch in batches]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    torch.manual_seed(seed)
    width, x = cell["width"], torch.randn(cell["batch"], cell["width"], dtype=torch.double, device=bench.device)
    x.requires_grad_()
    states = [x]
    for _ in range(cell["depth"]):
        linear = nn.Linear(width, width, bias=False)
        nn.init.normal_(linear.weight, std=1 / math.sqrt(width))
        layer = nn.Sequential(linear, nn.BatchNorm1d(width), _ACTIVATIONS[cell["activation"]]())
        states.append(layer.to(bench.device, torch.double)(states[-1]))
    gradients = torch.autograd.grad(states[-1], states, torch.randn_like(states[-1]))
    inner = [float(gradient.square().sum()) for gradient in gradients[_ENDS:-_ENDS]]
    return {"growth": (inner[0] / inner[-1]) ** (1 / (len(inner) - 1))}


def _theory(activation: str, batch: float) -> float:
    """The growth per layer in theory: of linear layers for a batch, of ReLU in the limit of large batches."""
    return (batch - 2) / (batch - 3) if activation == "linear" else math.pi / (math.pi - 1)


def _published(cell: Cell) -> str:
    limit = " (large batches)" if cell["activation"] == "ReLU" else ""
    return f"{_theory(cell['activation'], cell['batch']):.4f}{limit}"


def _figures(measurements: Measurements) -> FiguresByCaption:
    figure, axes = one_panel(6, 3.4)
    batches = sorted({m.cell["batch"] for m in measurements})
    for activation, color in zip(_ACTIVATIONS, COLORS, strict=False):
        points = [(m.cell["batch"], m.values["growth"]) for m in measurements if m.cell["activation"] == activation]
        axes.plot(*zip(*points, strict=True), "o", color=color, markersize=4, alpha=0.7, label=activation)
        line = torch.logspace(math.log2(batches[0]), math.log2(batches[-1]), 200, 2).tolist()
        axes.plot(line, [_theory(activation, batch) for batch in line], "--", color=color, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, batches)
    axes.set(xlabel="samples in a batch", ylabel="growth of the squared gradient per layer")
    axes.legend(frameon=False, fontsize=8)
    return {"Growth per layer: each seed a point; dashed the theory, for ReLU that of large batches": figure}


STUDY = Study(
    "bn_explosion",
    "Batch normalization makes gradients explode where there are no skips (Yang et al. 2019)",
    "Plain layers of linear map, batch normalization and activation, their input standard normal, their weights "
    "Gaussian (their size has no effect). A random vector is sent back from the output, in float64; measured is by "
    "what factor the squared norm of the gradient grows from a layer to the one before it, a geometric mean over all "
    f"layers but {_ENDS} at either end. At cpu scale 24 layers of 512 units, at paper scale 50 of 1000.\n\n"
    "Beside it stands theory for infinite width: pi / (pi - 1) = 1.467 for ReLU in large batches, (B - 2) / (B - 3) "
    "for linear layers and a batch of B. The formulas are recalled of the paper; its own widths and depths were not "
    "looked up.",
    ("yang2019batchnorm",),
    _cells,
    _measure,
    ("activation", "batch"),
    (Column("growth", "growth per layer", 4),),
    _published,
    _figures,
)
