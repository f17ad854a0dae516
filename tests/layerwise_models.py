"""Data and networks of many kinds for the tests of layerwise training."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

import minimand as mm


def digits(samples: int = 256) -> Any:
    data = mm.load_data("digits")
    train = cast(Any, data.train)
    return (data.prepare(train.inputs[:samples]), train.targets[:samples])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "momentum": lambda: mm.create_model("resnet20(depth=4, width=4)", "heavy_ball(momentum=0.5)", in_channels=1),
    "learnable": lambda: mm.create_model(
        "preact_resnet20(depth=7, width=4)", "heavy_ball(momentum=Learnable(0.5, 0, 1))", in_channels=1
    ),
    "several oracles": lambda: mm.create_model("preact_resnet20(depth=3, width=4)", "linearized_admm", in_channels=1),
    "vectors": lambda: mm.create_model("mlp(depth=3, width=12)", in_channels=64),
    "tokens": lambda: mm.create_model(
        "vit_tiny(depth=3, width=24, image_size=8, patch=4, num_classes=10)", "heavy_ball", in_channels=1
    ),
    "chain": lambda: nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 10),
    ),
}
"""Networks of states that are tuples, with learnable coefficients, transitions and batch normalization; a chain."""


def new_model(name: str) -> nn.Module:
    """A network of `MODELS`, with the same weights whenever it is made."""
    torch.manual_seed(0)
    return MODELS[name]()


def recipe(epochs: int = 1) -> mm.Recipe:
    return mm.Recipe(epochs, 64, mm.SGD(0.05), mm.StepDecay(at=()), precision="fp32")


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
