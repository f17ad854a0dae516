"""What training layer by layer costs against depth: memory kept for the backward pass, and time."""

import statistics
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from ..._support.style import COLORS, draw_mean_and_range, one_panel
from ...data import Data
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values, draw_sweep
from ...experiments.trained import images
from ...recipes import SGD, Augmentation, Recipe, StepDecay, as_config, from_config
from ...report import saved_bytes
from ...training import Backpropagation, EpochDone, Event, Layerwise, Method, fit

_METHODS: dict[str, Method] = {
    "end to end": Backpropagation(),
    "layer by layer": Layerwise(2),
    "layer by layer, cached": Layerwise(2, cache="memory"),
}
_SAVED = Column("kept", "kept for backward, MB", 1, 1e-6)


def _cells(scale: Scale) -> list[Cell]:
    depths, width, train, batch = {
        "smoke": ((2, 3), 4, 100, 50),
        "cpu": ((2, 4, 8), 8, 256, 64),
        "paper": ((2, 4, 8, 16), 128, None, 128),
    }[scale]
    recipe = Recipe(3, batch, SGD(0.05), StepDecay(at=()), augmentation=Augmentation())
    settings = {"width": width, **images(scale, train or 0, 64), "recipe": as_config(recipe)}
    return [{"training": training, "depth": depth, **settings} for training in _METHODS for depth in depths]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    recipe, method = from_config(cell["recipe"]), _METHODS[cell["training"]]
    torch.manual_seed(seed)
    model = _network(cell, data)
    clock = time.process_time if bench.device.type == "cpu" else time.perf_counter
    ends: list[float] = []

    def note_end(event: Event) -> None:
        if isinstance(event, EpochDone):
            ends.append(clock())

    fit(_network(cell, data), data, recipe=replace(recipe, epochs=1), device=bench.device)  # to warm up
    began = clock()
    fit(model, data, method=method, recipe=recipe, seed=seed, device=bench.device, callbacks=[note_end], progress=False)
    epochs = recipe.epochs
    # The first epoch of a block includes what is made for it, so it is the later ones that are compared.
    later = [(ends[i + epochs - 1] - ends[i]) / (epochs - 1) for i in range(0, len(ends), epochs)]
    return {
        "kept": _saved(cell, data, method, recipe.batch_size),
        "seconds": later,
        "growth": later[-2] / later[1] if len(later) > 3 else "-",
        "whole": (ends[-1] - began) / epochs,
    }


def _saved(cell: Cell, data: Data, method: Method, batch: int) -> int:
    """The bytes that autograd keeps for a batch, in the problem that keeps most."""
    with torch.device("meta"):
        model = _network(cell, data)
        x, y = torch.empty(batch, *data.shape), torch.zeros(batch, dtype=torch.long)
        plan = method.plan(model, lambda: x[:4], data.num_outputs, 1)
        return max(
            saved_bytes(lambda m=problem.module: F.cross_entropy(m.train()(x), y), nn.ModuleList([model, plan.saved]))
            for problem in plan.problems
        )


def _network(cell: Cell, data: Data) -> nn.Sequential:
    width = cell["width"]
    blocks = [
        nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        for channels in (data.shape[0], *[width] * (cell["depth"] - 1))
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, data.num_outputs))


def _figures(measurements: Measurements) -> FiguresByCaption:
    time_figure, axes = one_panel(5.5, 3.2)
    deepest = max(m.cell["depth"] for m in measurements)
    for training, color in zip(_METHODS, COLORS, strict=False):
        here = [m for m in measurements if (m.cell["training"], m.cell["depth"]) == (training, deepest)]
        by_block = list(zip(*(m.values["seconds"] for m in here), strict=True))
        if len(by_block) > 1:
            draw_mean_and_range(axes, range(1, 1 + len(by_block)), by_block, color, training, center=statistics.median)
    axes.set(xlabel=f"block, of {deepest}", ylabel="seconds an epoch", ylim=(0, None))
    if axes.get_lines():
        axes.legend(frameon=False, fontsize=8)
    kept_figure = draw_sweep(measurements, _SAVED, "data", line="training")
    return {
        f"Time of an epoch of each block of {deepest}: median and range of the seeds": time_figure,
        "Bytes kept for the backward pass of a batch, the most of any block": kept_figure,
    }


STUDY = Study(
    "layerwise_cost",
    "Memory and time of training layer by layer, against depth",
    "Plain networks of 3 x 3 convolutions of 8 channels with batch normalization on 256 images of CIFAR-10, in batches "
    "of 64; classifiers have one hidden layer (k = 2). What is kept is counted by saved-tensor hooks, each storage "
    "once, without parameters, for the block that keeps most. Times are of the processor, one thread: the mean of the "
    "second and third epoch of each block, test of 64 images included. The last column is the time of all blocks, "
    "filling the cache included, over the epochs of each; end to end it is that of an epoch.\n\n"
    "At paper scale 128 channels and all images. No source has such a table: that memory does not grow with depth is "
    "the claim of Belilovsky et al.",
    ("belilovsky2019greedy",),
    _cells,
    _measure,
    ("training", "depth"),
    (_SAVED, Column("growth", "epoch of block J - 1 / of block 2"), Column("whole", "s, an epoch of each block")),
    None,
    _figures,
)
