"""What the initialization of a deep network decides: accuracy after a few steps, and gradients before the first."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ...data import Data
from ...experiments import Bench, Cell, Column, Scale, Study, Values, rows
from ...experiments.trained import ACCURACY, best_of_rates, first_batch, images_for_steps, one_epoch, plain_network
from ...models import create_for
from ...recipes import as_config
from ...trainability import diagnose, initialize
from ...trainability.measure.reading import number

_DEFAULT = "torch's default"
_LEARNED = ("metainit", "gradinit")
_ROWS = {
    "tanh": ("critical", "critical(weights='gaussian')", "xavier", "kaiming", _DEFAULT, "metainit", "gradinit"),
    "ReLU": ("looks_linear", "kaiming", "lsuv", "xavier", _DEFAULT),
    "GELU": ("critical", "kaiming", "metainit", "gradinit"),
    "ReLU, batch norm": ("kaiming",),
    "ReLU, layer norm": ("kaiming",),
    "residual ReLU": ("depth", "rezero", "fixup", "kaiming"),
}
_ACTIVATIONS = {"tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}
_NORMS = {"batch norm": nn.BatchNorm1d, "layer norm": nn.LayerNorm}
_RATES = (1e-3, 5e-3, 2e-2)


def _cells(scale: Scale) -> list[Cell]:
    depth, steps, width = {"smoke": (10, 2, 20), "cpu": (50, 125, 100), "paper": (100, 250, 100)}[scale]
    batch = 32 if scale == "smoke" else 64
    return [
        {"network": network, "scheme": scheme, "depth": depth, "width": width}
        | {**images_for_steps(scale, steps, batch), "recipe": as_config(one_epoch(_RATES[0], batch))}
        | {"rates": list(_RATES[-1:] if scale == "smoke" else _RATES)}
        for network, schemes in _ROWS.items()
        for scheme in schemes
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    best, _ = best_of_rates(lambda: _network(cell, seed, data), data, cell, seed, bench)
    inputs, targets = first_batch(data)
    report = diagnose(_network(cell, seed, data), inputs, target=targets)
    gradients = [number(layer.weight_gradient, math.nan) for layer in report.layers]
    return best | {"verdict": report.verdict.code, "first": gradients[1], "last": gradients[-2]}


def _network(cell: Cell, seed: int, data: Data) -> nn.Module:
    torch.manual_seed(seed)
    kind, _, norm = cell["network"].partition(" ")
    width, depth = cell["width"], cell["depth"]
    if kind == "residual":
        # Stem and head count as one block.
        model = create_for(f"mlp(width={width}, hidden={width}, depth={depth // 2 - 1})", data.shape, data.num_outputs)
    else:
        model = plain_network(width, depth, _ACTIVATIONS[kind.rstrip(",")], data, _NORMS.get(norm))
    if cell["scheme"] != _DEFAULT:
        inputs, targets = first_batch(data)
        if cell["scheme"] in _LEARNED:  # from weights that a gradient reaches
            initialize(model, "critical(weights='gaussian')", batch=inputs)
        initialize(model, cell["scheme"], batch=inputs, target=targets, loss=F.cross_entropy)
    return model


STUDY = Study(
    "initialization",
    "What initialization decides in a network too deep for its default",
    "A plain network of 50 layers of 100 units (100 layers at paper scale), or a residual one of as many, on the "
    "images of Fashion-MNIST as vectors (the digits at smoke scale): 125 steps of SGD (250 at paper scale) with "
    "Nesterov momentum 0.9 and batches of 64, no weight decay, at a constant rate. Three rates are tried, and the "
    "accuracy on 2,000 test images is that of the best of them, by this accuracy. Schemes are those of "
    "`mm.initialize`, which sees 64 training images; MetaInit and GradInit start from Gaussian critical ones. Before "
    "the first step: the norm of the gradient of the loss by the parameters of the second layer and of the last hidden "
    "one, and the verdict of `mm.diagnose` from one batch.\n\n"
    "Nothing is published that could stand beside it.",
    (),
    _cells,
    _measure,
    ("network", "scheme"),
    (
        ACCURACY,
        Column("rate", "learning rate"),
        Column("first", "first gradient", 1, style="e"),
        Column("last", "last gradient", 1, style="e"),
        Column("verdict", "verdict"),
    ),
    published=None,
    figures=rows("Test accuracy", ("network", "scheme"), ACCURACY, "; what diverged at all rates is left out"),
)
