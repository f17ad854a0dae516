"""Cells that are measured by training a network."""

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any, cast

import torch
from torch import nn

from ..data.data import Data
from ..models.network import UnrolledNetwork
from ..models.registry import create_for
from ..recipes.augmentation import Augmentation
from ..recipes.optimizers import SGD
from ..recipes.recipe import Recipe, as_config, from_config
from ..recipes.schedules import StepDecay
from ..report.size import count_flops
from ..training.fit import fit
from ..training.hooks.nonfinite import NonFiniteLossError
from ..training.loop.result import FitResult
from ..training.methods.method import Method
from .bench import Bench
from .study import Cell, Column, Scale

ERROR = Column("error", "test error %", 2, 100)
COLUMNS = (
    ERROR,
    Column("loss", "test loss", 3),
    Column("parameters", "M parameters", 3, 1e-6),
    Column("flops", "M FLOPs", 1, 1e-6),
)
"""What `measure_classifier` measures."""


SKELETONS = (
    "gradient_descent",
    "heavy_ball(momentum=0.5)",
    "heavy_ball(momentum=0.9)",
    "nesterov_y(momentum=0.5)",
    "fista",
)
"""What the small studies compare."""


def kept(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, to be kept in a cell."""
    return as_config(recipe)


def few_steps(rate: float, batch: int) -> Recipe:
    """One epoch at a constant rate: as many steps as there are batches."""
    return Recipe(1, batch, SGD(rate, weight_decay=0.0), StepDecay(at=()), augmentation=Augmentation())


def plain_network(
    width: int,
    depth: int,
    activation: Callable[[], nn.Module],
    data: Data,
    norm: Callable[[int], nn.Module] | None = None,
) -> nn.Sequential:
    """`depth` linear layers, an activation after each but the last, if need be behind a normalization."""
    widths = [math.prod(data.shape), *[width] * (depth - 1)]
    hidden = [(nn.Linear(a, b), *([norm(b)] if norm else []), activation()) for a, b in pairwise(widths)]
    return nn.Sequential(nn.Flatten(), *chain.from_iterable(hidden), nn.Linear(width, data.num_outputs))


def images(scale: Scale, train: int, test: int = 2000) -> dict[str, Any]:
    """The part of a cell that says which images: a few digits, the first so many of CIFAR-10, or all of them."""
    if scale == "smoke":
        return {"data": "digits", "train": 100, "test": 100}
    return {"data": "cifar10", "train": train, "test": test} if scale == "cpu" else {"data": "cifar10"}


def few(scale: Scale, steps: int, batch: int = 64) -> dict[str, Any]:
    """The part of a cell that says which images a few steps see: of Fashion-MNIST, or the digits at smoke scale."""
    test, name = (100, "digits") if scale == "smoke" else (2000, "fashion_mnist")
    return {"data": name, "train": steps * batch, "test": test}


def best_of_rates(
    create: Callable[[], nn.Module],
    data: Data,
    cell: Cell,
    seed: int,
    bench: Bench,
    method: Method | None = None,
) -> tuple[dict[str, Any], nn.Module | None]:
    """Train a new model at each learning rate of `cell["rates"]`: the best test accuracy, its rate, and its model."""
    best: dict[str, Any] = {"diverged": 1}
    model = None
    for rate in cell["rates"]:
        recipe = from_config(cell["recipe"])
        changed = {**cell, "recipe": kept(replace(recipe, optimizer=replace(recipe.optimizer, lr=rate)))}
        try:
            result = train(create(), data, changed, seed, bench, resume=False, method=method)
        except NonFiniteLossError:
            continue
        if best.get("accuracy", -1) < cast(float, result.test_accuracy):
            best, model = {"accuracy": result.test_accuracy, "rate": f"{rate:g}"}, result.model
    return best, model


def train(
    model: nn.Module,
    data: Data,
    cell: Cell,
    seed: int,
    bench: Bench,
    resume: bool = True,
    method: Method | None = None,
) -> FitResult:
    """Train a model by the recipe in its cell.

    Args:
        model: trained in place, on the bench's device.
        data: what on.
        cell: holds `recipe`.
        seed: of the order of the samples and every random choice.
        bench: says where.
        resume: keep checkpoints, so that an interrupted training goes on where it was.
        method: as for `mm.fit`.
    """
    recipe = from_config(cell["recipe"])
    name = f"{zlib.crc32(json.dumps(cell, sort_keys=True).encode()):08x}-seed{seed}"
    run = bench.runs / name if resume else None
    label = f"{cell.get('model', '')} {cell.get('algorithm', '')} seed {seed}".strip()
    callbacks = bench.callbacks(label)
    return fit(model, data, method, recipe, run=run, seed=seed, device=bench.device, callbacks=callbacks)


def measure_classifier(cell: Cell, seed: int, bench: Bench) -> dict[str, Any]:
    """Error, loss and size of the named model `cell["model"]`, trained with `cell["algorithm"]` if there is one."""
    data = bench.data(cell["data"], cell.get("train"), cell.get("test"), cell.get("enlarged", 1))
    return classified(created(cell["model"], data, cell, seed), data, cell, seed, bench)


def created(name: str, data: Data, cell: Cell, seed: int) -> UnrolledNetwork:
    """A named model for some data, run by the algorithm in its cell; its weights are drawn from the seed."""
    torch.manual_seed(seed)
    return create_for(name, data.shape, data.num_outputs, cell.get("algorithm"))


def classified(model: nn.Module, data: Data, cell: Cell, seed: int, bench: Bench) -> dict[str, Any]:
    """Error, loss and size of a classifier, after training."""
    result = train(model, data, cell, seed, bench)
    assert result.test_accuracy is not None
    return {
        "error": 1 - result.test_accuracy,
        "loss": result.test_loss,
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": count_flops(model, data.shape),
    }
