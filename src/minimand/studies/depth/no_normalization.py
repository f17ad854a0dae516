"""Deep residual networks without normalization: what the scale of their branches decides (Fixup, SkipInit)."""

import torch
from torch import nn

from ...data import Data
from ...experiments import Bench, Cell, Column, Scale, Study, Values, rows
from ...experiments.trained import ACCURACY, RATE, best_of_rates, first_batch, images_for_steps, one_epoch
from ...models import create_for
from ...recipes import SGD, Recipe, StepDecay, as_config
from ...surgery import normalize
from ...trainability import diagnose, initialize

_NORMALIZED = "batch normalization"
_WITHOUT = {
    "fixup": "fixup",
    "skipinit": "skipinit",
    "branches over sqrt(depth)": "depth",
    "unscaled": "kaiming",
    "no skips": "kaiming",
}
_RATES = (1e-2, 3e-2, 1e-1)
_BATCH = 32
_LONG = Recipe(164, 128, SGD(0.1, weight_decay=1e-4), StepDecay())


def _cells(scale: Scale) -> list[Cell]:
    blocks, width, steps = {"smoke": (6, 4, 2), "cpu": (54, 8, 250), "paper": (54, 16, 0)}[scale]
    if scale == "paper":
        training = {"data": "cifar10", "recipe": as_config(_LONG)}
    else:
        training = {**images_for_steps(scale, steps, _BATCH), "recipe": as_config(one_epoch(_RATES[0], _BATCH))}
    return [
        {"network": network, "blocks": blocks, "width": width, "pool": 1 if scale in ("smoke", "paper") else 2}
        | {**training, "rates": list(_RATES[:1] if scale == "smoke" else _RATES)}
        for network in (_NORMALIZED, *_WITHOUT)
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    best, _ = best_of_rates(lambda: _network(cell, seed, data), data, cell, seed, bench)
    inputs, targets = first_batch(data, _BATCH)
    report = diagnose(_network(cell, seed, data), inputs, target=targets)
    return best | {"verdict": report.verdict.code}


def _network(cell: Cell, seed: int, data: Data) -> nn.Module:
    torch.manual_seed(seed)
    channels, height, width = data.shape
    shape = (channels, height // cell["pool"], width // cell["pool"])
    # Without skips: x_next = T(x), T the two convolutions of a branch; those that change the shape keep theirs.
    name, algorithm = ("hb_net20", "gradient_descent") if cell["network"] == "no skips" else ("resnet20", None)
    net = create_for(f"{name}(width={cell['width']}, depth={cell['blocks']})", shape, data.num_outputs, algorithm)
    model = nn.Sequential(nn.AvgPool2d(cell["pool"]), net)
    if cell["network"] != _NORMALIZED:
        normalize(model, "none")
        initialize(model, _WITHOUT[cell["network"]], batch=first_batch(data, _BATCH)[0])
    return model


STUDY = Study(
    "no_normalization",
    "ResNet-110 without normalization: Fixup, SkipInit and branches scaled by depth",
    "ResNet-110, of 8, 16 and 32 channels on Fashion-MNIST at 14 x 14 pixels at cpu scale: 250 steps of SGD with "
    "Nesterov momentum 0.9 and batches of 32, no weight decay, at a constant rate; of three rates the best, by the "
    "accuracy on 2,000 test images. At paper scale 16, 32 and 64 channels on CIFAR-10, 164 epochs. Normalization is "
    "taken out by `mm.normalize`, the schemes are those of `mm.initialize`. Without skips the blocks that change the "
    "shape keep theirs.\n\n"
    "Zhang et al. report a test error of 7.24 % for Fixup on CIFAR-10 at full length, He et al. 6.61 % with batch "
    "normalization (both recalled, not read again); 250 steps are another experiment.",
    ("zhang2019fixup", "de2020skipinit", "he2016resnet"),
    _cells,
    _measure,
    ("network",),
    (ACCURACY, RATE, Column("verdict", "verdict at the start")),
    published=None,
    figures=rows("Test accuracy", ("network",), ACCURACY, "; what diverged at all rates is left out"),
)
