"""Deep residual networks without normalization: what the scale of their branches decides (Fixup, SkipInit)."""

from typing import Any, cast

import torch
from torch import nn

from ...data.data import Data
from ...data.samples import Arrays
from ...experiments.bench import Bench
from ...experiments.panels import draw_rows
from ...experiments.study import Cell, Column, Scale, Study, register
from ...experiments.trained import best_of_rates, few, few_steps, kept
from ...models.registry import create_for
from ...recipes.optimizers import SGD
from ...recipes.recipe import Recipe
from ...recipes.schedules import StepDecay
from ...surgery.normalize import normalize
from ...trainability.diagnosis.diagnose import diagnose
from ...trainability.initialization.initialize import initialize

_NORMALIZED = "batch normalization"
_WITHOUT = {
    "fixup": "fixup",
    "skipinit": "skipinit",
    "branches over sqrt(depth)": "depth",
    "unscaled": "kaiming",
    "no skips": "kaiming",
}
_RATES = (1e-2, 3e-2, 1e-1)
_LONG = Recipe(164, 128, SGD(0.1, weight_decay=1e-4), StepDecay())
_ACCURACY = Column("accuracy", "test accuracy %", 1, 100)


def _cells(scale: Scale) -> list[Cell]:
    blocks, width, steps = {"smoke": (6, 4, 2), "cpu": (54, 8, 250), "paper": (54, 16, 0)}[scale]
    what = {"data": "cifar10", "recipe": kept(_LONG)} if scale == "paper" else {}
    return [
        {"network": network, "blocks": blocks, "width": width, "pool": 1 if scale in ("smoke", "paper") else 2}
        | (what or {**few(scale, steps, 32), "recipe": kept(few_steps(_RATES[0], 32))})
        | {"rates": list(_RATES[:1] if scale == "smoke" else _RATES)}
        for network in (_NORMALIZED, *_WITHOUT)
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> dict[str, Any]:
    data = bench.data(cell["data"], cell.get("train"), cell.get("test"))
    found, _ = best_of_rates(lambda: _network(cell, seed, data), data, cell, seed, bench)
    inputs, targets = _batch(data)
    report = diagnose(_network(cell, seed, data), inputs, target=targets)
    return found | {"verdict": report.verdict.code}


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
        initialize(model, _WITHOUT[cell["network"]], batch=_batch(data)[0])
    return model


def _batch(data: Data, samples: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    first = cast(Arrays, data.train)
    return data.prepare(first.inputs[:samples]), first.targets[:samples]


register(
    Study(
        "no_normalization",
        "ResNet-110 without normalization: Fixup, SkipInit and branches scaled by depth",
        "ResNet-110, of 8, 16 and 32 channels on Fashion-MNIST at 14 x 14 pixels at cpu scale: 250 steps of SGD with "
        "Nesterov momentum 0.9 and batches of 32, no weight decay, at a constant rate; of three rates the best, by "
        "the accuracy on 2,000 test images. At paper scale 16, 32 and 64 channels on CIFAR-10, 164 epochs. "
        "Normalization is taken out by `mm.normalize`, the schemes are those of `mm.initialize`. Without skips the "
        "blocks that change the shape keep theirs.\n\n"
        "Zhang et al. report a test error of 7.24 % for Fixup on CIFAR-10 at full length, He et al. 6.61 % with batch "
        "normalization (both recalled, not read again); 250 steps are another experiment.",
        ("zhang2019fixup", "de2020skipinit", "he2016resnet"),
        _cells,
        _measure,
        ("network",),
        (_ACCURACY, Column("rate", "learning rate"), Column("verdict", "verdict at the start")),
        published=None,
        figures=lambda measurements: {
            "Test accuracy: each seed a point, their mean a line; what diverged at all rates is left out": draw_rows(
                measurements, ("network",), _ACCURACY
            )
        },
    )
)
