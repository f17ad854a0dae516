"""How deep a plain network can be and still be trained, over the size of its weights (Schoenholz et al. 2017)."""

import math
import statistics

import torch
from torch import nn

from ..._support.style import COLORS, new_figure, plain
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...experiments.trained import ACCURACY, images_for_steps, one_epoch, plain_network, train
from ...recipes import as_config
from ...trainability.mean_field import depth_scales
from ...training import NonFiniteLossError

# The classes, with the variance of the biases: the paper's for tanh, that of the critical points for the others.
_ACTIVATIONS = {"tanh": (nn.Tanh, 0.05), "ReLU": (nn.ReLU, 0.0), "GELU": (nn.GELU, 0.172922)}
REACH = 6
"""The number of depth scales that a network can be deep and still be trained."""


def _cells(scale: Scale) -> list[Cell]:
    depths, sigmas, steps, width, batch = {
        "smoke": ((4,), (1.0, 1.4), 2, 20, 32),
        "cpu": ((5, 10, 20, 40), (0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0), 125, 100, 64),
        "paper": ((10, 30, 100, 300), tuple(round(0.8 + 0.1 * i, 1) for i in range(16)), 200, 300, 128),
    }[scale]
    return [
        {"activation": activation, "sigma_w": sigma, "depth": depth, "width": width}
        | {**images_for_steps(scale, steps, batch), "recipe": as_config(one_epoch(3e-3, batch))}
        for activation in _ACTIVATIONS
        for sigma in sigmas
        for depth in depths
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    activation, variance = _ACTIVATIONS[cell["activation"]]
    torch.manual_seed(seed)
    model = plain_network(cell["width"], cell["depth"], activation, data)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=cell["sigma_w"] / math.sqrt(layer.in_features))
            nn.init.normal_(layer.bias, std=math.sqrt(variance))
    theory = {"reach": f"{_reach(cell['activation'], cell['sigma_w']):.0f}"}
    try:
        return theory | {"accuracy": train(model, data, cell, seed, bench, resume=False).test_accuracy}
    except NonFiniteLossError:
        return theory | {"diverged": 1}


def _reach(activation: str, sigma_w: float) -> float:
    """`REACH` times the shorter of the depth scales of angles and of gradients, whether these grow or die."""
    phi, variance = _ACTIVATIONS[activation]
    scales = depth_scales(phi, sigma_w, math.sqrt(variance))
    return REACH * min(abs(scales.xi_c), abs(scales.xi_grad))


def _figures(measurements: Measurements) -> FiguresByCaption:
    figure = new_figure(9, 3.4)
    panels = figure.subplots(1, len(_ACTIVATIONS), sharey=True)
    depths = sorted({m.cell["depth"] for m in measurements})
    for axes, activation in zip(map(plain, panels), _ACTIVATIONS, strict=True):
        accuracies: dict[tuple[float, int], list[float]] = {}
        for m in measurements:
            if m.cell["activation"] == activation:
                place = m.cell["sigma_w"], m.cell["depth"]
                accuracies.setdefault(place, []).append(100 * m.values.get("accuracy", 0.0))
        x, y = zip(*accuracies, strict=True)
        shades = [statistics.mean(values) for values in accuracies.values()]
        axes.scatter(x, y, c=shades, s=150, marker="s", cmap="viridis", vmin=10, vmax=80)
        line = torch.linspace(min(x), max(x), 61).tolist()
        axes.plot(line, [_reach(activation, sigma) for sigma in line], color=COLORS[1], linewidth=1.5)
        axes.set_yscale("log")
        axes.set_yticks(depths, depths)
        axes.minorticks_off()
        axes.set(ylim=(depths[0] / 1.4, depths[-1] * 1.4), xlabel="sigma_w")
        axes.set_title(activation, fontsize=9)
    figure.axes[0].set_ylabel("depth")
    figure.colorbar(panels[0].collections[0], ax=panels, label="test accuracy %", shrink=0.9)
    meaning = f"where a loss that is not finite counts as 0; the line is {REACH} times the depth scale of theory"
    return {f"Test accuracy, mean over seeds, {meaning}": figure}


STUDY = Study(
    "trainable_depth",
    "Trainable depth against the size of the weights (after Schoenholz et al. 2017)",
    "Plain networks of 100 units on the images of Fashion-MNIST as vectors: 125 steps of SGD with Nesterov momentum "
    "0.9 and batches of 64, all at the constant rate 0.003. Weights are Gaussian with the deviation sigma_w / "
    "sqrt(fan-in); biases have the variance 0.05 for tanh, 0 for ReLU and 0.173 for GELU, that of its half-stable "
    f"point. Beside the accuracy stands how deep theory lets a network be: {REACH} times the depth scale of "
    f"`mm.trainability.mean_field.depth_scales`, the shorter of those of angles and of gradients. The {REACH} is "
    "recalled of the paper, not read again, and was not fitted here.\n\n"
    "The paper has pictures, not tables, and they are of tanh; the sizes at paper scale (300 units, 200 steps, batches "
    "of 128) are not known to be its own.",
    ("schoenholz2017deep", "poole2016exponential"),
    _cells,
    _measure,
    ("activation", "sigma_w", "depth"),
    (ACCURACY, Column("reach", f"{REACH} depth scales")),
    None,
    _figures,
)
