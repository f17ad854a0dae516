"""Layers trained one after another, all at once, and end to end (Belilovsky et al. 2020)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from ...data import Data
from ...experiments import Bench, Cell, Column, Scale, Study, Values, rows
from ...experiments.trained import ACCURACY, images, train
from ...recipes import SGD, Augmentation, Recipe, StepDecay, as_config
from ...training import Backpropagation, Decoupled, Layerwise, Method, evaluate
from ...training.loop.problems import Plan
from ...training.methods.local.decoupled import Group, Part

DEPTH = 4
_SEQUENTIAL, _DECOUPLED, _END_TO_END = "one after another", "all at once", "end to end"
_PUBLISHED = {
    _SEQUENTIAL: "89.37 (depths 1 to 3: 78.86, 85.83, 88.32)",
    _DECOUPLED: "90.01 (depths 1 to 3: 78.54, 85.57, 87.98)",
}
_COLUMNS = (ACCURACY, *(Column(f"depth{j}", f"depth {j}", 1, 100) for j in range(1, DEPTH)))


def _cells(scale: Scale) -> list[Cell]:
    width, epochs = {"smoke": (4, 1), "cpu": (16, 6), "paper": (128, 50)}[scale]
    settings = {"width": width, **images(scale, 4000), "recipe": as_config(published_recipe(scale, epochs))}
    return [{"training": training, **settings} for training in (_SEQUENTIAL, _DECOUPLED, _END_TO_END)]


def published_recipe(scale: Scale, epochs: int) -> Recipe:
    """The published recipe; at small scales without augmentation, with the drops at the same shares of training."""
    augmentation = None if scale == "paper" else Augmentation()
    schedule = StepDecay(at=(0.3, 0.6, 0.9), by=0.2)
    return Recipe(epochs, 128 if scale == "paper" else 64, SGD(0.1), schedule, augmentation=augmentation)


def network(width: int, data: Data, seed: int) -> nn.Sequential:
    """Four convolutions with batch normalization, the images halved and the width doubled before the second."""
    torch.manual_seed(seed)
    channels = [data.shape[0], width, 2 * width, 2 * width, 2 * width]
    blocks = []
    for j in range(DEPTH):
        convolution = nn.Conv2d(channels[j], channels[j + 1], 3, padding=1, bias=False)
        pool = [nn.MaxPool2d(2)] if j == 1 else []
        blocks.append(nn.Sequential(*pool, convolution, nn.BatchNorm2d(channels[j + 1]), nn.ReLU()))
    head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, data.num_outputs))
    return nn.Sequential(*blocks, *head)


@dataclass(frozen=True)
class _Remembered(Decoupled):
    """Decoupled training that keeps its plan, in which the classifiers are."""

    plans: list[Plan] = field(default_factory=list, compare=False)

    def plan(self, model: nn.Module, example: Callable[[], torch.Tensor], num_outputs: int, epochs: int) -> Plan:
        self.plans.append(super().plan(model, example, num_outputs, epochs))
        return self.plans[-1]


class _Until(nn.Module):
    """A network up to one of its modules, and the classifier there."""

    def __init__(self, parts: list[Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = x
        for part in self.parts:
            x, outputs, _ = part(x)
        return outputs


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    plans: list[Plan] = []
    method: Method = {
        _SEQUENTIAL: Layerwise(auxiliary="mlp_sr", cache="off" if cell["width"] == 128 else "memory"),
        _DECOUPLED: _Remembered(plans=plans),
        _END_TO_END: Backpropagation(),
    }[cell["training"]]
    result = train(network(cell["width"], data, seed), data, cell, seed, bench, False, method)
    depths: list[Any] = ["no classifier"] * (DEPTH - 1)
    if cell["training"] == _SEQUENTIAL:
        last = {record["problem"]: record["test_accuracy"] for record in result.history}
        depths = [last[j] for j in range(1, DEPTH)]
    elif plans:
        parts = cast(Group, plans[0].problems[0].module).each
        depths = [evaluate(_Until(parts[:j]), data).accuracy for j in range(1, DEPTH)]
    seconds = sum(record["seconds"] for record in result.history)
    return {"accuracy": result.test_accuracy, **{f"depth{j}": a for j, a in enumerate(depths, 1)}, "seconds": seconds}


STUDY = Study(
    "decoupled",
    "Layers one after another, all at once, and end to end",
    "Four convolutions of 3 x 3 with batch normalization, each below an auxiliary classifier (MLP-SR), trained "
    "greedily one after another (`mm.Layerwise`), all at once without gradients between them (`mm.Decoupled`), and end "
    "to end: the same network and recipe, and the test accuracy of the classifiers at every depth. At cpu scale 16 to "
    "32 channels, the first 4,000 images of CIFAR-10 without augmentation, 6 epochs, of each layer where they follow "
    "each other; test on 2,000 images. At paper scale 128 to 256 channels, all images, 50 epochs.\n\n"
    "The published numbers are read off the authors' committed logs: the best test accuracy of 50 epochs at each "
    "depth, where ours are the last. Their network is not told apart from others by the logs, so that of the paper "
    "scale (one halving, the width doubled there) is a reconstruction.",
    ("belilovsky2020decoupled", "belilovsky2019greedy"),
    _cells,
    _measure,
    ("training",),
    (*_COLUMNS, Column("seconds", "seconds", 0)),
    published=lambda cell: _PUBLISHED.get(cell["training"], "unknown"),
    figures=rows("Test accuracy of the whole network", ("training",), ACCURACY),
)
