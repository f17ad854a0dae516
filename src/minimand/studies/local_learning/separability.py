"""What can be told from each layer of networks trained layer by layer (Belilovsky et al. 2019)."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from ..._support.style import COLORS, draw_mean_and_range, legend_below, new_figure, plain
from ...analysis import probe
from ...data import Data
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...experiments.trained import images, train
from ...layers.heads import auxiliary
from ...recipes import SGD, Augmentation, Recipe, StepDecay, as_config, from_config
from ...training import Layerwise

_NAMES = {0: "linear", 1: "CNN-1", 2: "CNN-2"}  # of probes, by their hidden layers


def _cells(scale: Scale) -> list[Cell]:
    widths, layers, probes, size = {
        "smoke": ((4,), 3, [0, 1], {"auxiliary_width": 4, "pool": 1}),
        "cpu": ((16,), 5, [0, 1], {"auxiliary_width": 16, "pool": 2}),
        "paper": ((64, 128, 256), 5, [0, 1, 2], {"auxiliary_width": 256, "pool": 1}),
    }[scale]
    recipe = greedy_recipe(scale, 50, 0.3)
    return [
        {"k": k, "width": width, "layers": layers, **size, "norm": k > 1, **images(scale, 2000)}
        | {"recipe": as_config(recipe), "probes": probes, "probe_epochs": -(-recipe.epochs // 2)}
        for width in widths
        for k in (1, 2, 3)
    ]


def greedy_recipe(scale: Scale, epochs: int, every: float) -> Recipe:
    """The paper's recipe, whose rate drops after every such part; shorter and without augmentation at other scales."""
    if scale == "paper":
        at = tuple(round(i * every, 4) for i in range(1, math.ceil(1 / every)))
        return Recipe(epochs, 128, SGD(0.1, weight_decay=5e-4), StepDecay(at, 0.2))
    epochs = 1 if scale == "smoke" else round(0.12 * epochs)
    return Recipe(epochs, 64, SGD(0.05, weight_decay=5e-4), StepDecay((0.5, 0.75), 0.2), augmentation=Augmentation())


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    recipe, width = from_config(cell["recipe"]), cell["auxiliary_width"]
    torch.manual_seed(seed)
    model = greedy_network(data, [cell["width"]] * cell["layers"], cell["k"], width, cell["norm"], cell["pool"])
    # States of images that are not augmented can be cached.
    cache = "memory" if recipe.augmentation == Augmentation() else "off"
    method = Layerwise(cell["k"], "cnn", width, cache=cache)
    values: Values = {"accuracy": train(model, data, cell, seed, bench, method=method).test_accuracy}
    shorter = replace(recipe, epochs=cell["probe_epochs"])
    for hidden in cell["probes"]:
        kind = "cnn" if hidden else "linear"
        layers = probe(model, data, kind, max(hidden, 1), width, shorter, seed=seed, device=bench.device).layers
        values[f"train_{hidden}"] = [x.train_accuracy for x in layers]
        values[f"test_{hidden}"] = [x.test_accuracy for x in layers]
        values[f"first_{hidden}"], values[f"last_{hidden}"] = layers[0].test_accuracy, layers[-1].test_accuracy
    return values


def greedy_network(
    data: Data, widths: Sequence[int], k: int, head_width: int, norm: bool, pool: int = 1
) -> nn.Sequential:
    """Convolutions with ReLU, no downsampling between them, and on top the classifier that all are trained below.

    Images are averaged over `pool` x `pool` pixels first.
    """
    channels, height, width = data.shape
    inputs = [channels, *widths]
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=not norm), *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU())
        for a, b in zip(inputs, widths, strict=False)
    ]
    head = auxiliary("cnn", (widths[-1], height // pool, width // pool), data.num_outputs, k - 1, head_width, norm)
    return nn.Sequential(*([nn.AvgPool2d(pool)] if pool > 1 else []), *blocks, head)


def _figures(measurements: Measurements) -> FiguresByCaption:
    measurements = [m for m in measurements if "test_0" in m.values]
    probes, widest = measurements[0].cell["probes"], max(m.cell["width"] for m in measurements)
    figure = new_figure(1 + 3 * len(probes), 3.6)
    for axes, hidden in zip(map(plain, figure.subplots(1, len(probes), squeeze=False)[0]), probes, strict=True):
        for k, color in zip(sorted({m.cell["k"] for m in measurements}), COLORS, strict=False):
            of_k = [m.values for m in measurements if (m.cell["k"], m.cell["width"]) == (k, widest)]
            for part, style in (("train", "--"), ("test", "o-")):
                by_seed = [[100 * accuracy for accuracy in values[f"{part}_{hidden}"]] for values in of_k]
                by_layer = list(zip(*by_seed, strict=True))
                label = f"k = {k}" if part == "test" else None
                draw_mean_and_range(axes, range(1, 1 + len(by_layer)), by_layer, color, label, style)
        axes.set_title(_NAMES[hidden], fontsize=9)
        axes.set_xlabel("layer")
        axes.locator_params("x", integer=True)
    figure.axes[0].set_ylabel("accuracy in %")
    legend_below(figure, columns=len({m.cell["k"] for m in measurements}), side="center")
    return {"Accuracy of probes of each layer on test samples, and on training samples dashed; mean and range": figure}


STUDY = Study(
    "separability",
    "What can be told from each layer of a network trained layer by layer",
    "Networks of five convolutions without downsampling, trained layer by layer below k - 1 more of them, and then "
    "probed at every layer by `mm.probe`: logistic regression of one class against the rest on the 2 x 2 average, and "
    "convolutional classifiers of one hidden layer, at paper scale of two as well. As in the paper there is batch "
    "normalization for k > 1 only. At cpu scale 16 channels, also in the classifiers, the first 2,000 images of "
    "CIFAR-10 at 16 x 16 pixels, 6 epochs a layer and 3 a probe; at paper scale 64, 128 and 256 channels, 256 in the "
    "classifiers, 50 epochs and 25.\n\n"
    "The paper has curves, no numbers. They show that linear separability rises with depth for every k, fastest at "
    "first and to a lower end for k = 1, and that of CNN probes too, much more for k > 1; CNN probes reach 100 % on "
    "training samples at the first or second layer. How its probes were trained is not known; here as the layers are.",
    ("belilovsky2019greedy",),
    _cells,
    _measure,
    ("k", "width"),
    (
        Column("accuracy", "network %", 1, 100),
        *(Column(f"{end}_{n}", f"{_NAMES[n]}, {end} layer %", 1, 100) for n in (0, 1) for end in ("first", "last")),
    ),
    None,
    _figures,
)
