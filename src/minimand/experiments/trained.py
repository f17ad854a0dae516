"""Cells that are measured by training a network."""

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data import Arrays, Data
from ..models import UnrolledNetwork, model_for
from ..networks import count_parameters
from ..recipes import SGD, Augmentation, Recipe, StepDecay, as_config, from_config
from ..report import count_flops
from ..training import FitResult, Method, NonFiniteLossError, fit
from .statistics.held_out import STAGE
from .study import Bench, Cell, Column, Scale, Values

ACCURACY = Column("accuracy", "test accuracy %", 1, 100)
ERROR = Column("error", "test error %", 2, 100)
PARAMETERS = Column("parameters", "parameters", 0)
RATE = Column("rate", "learning rate")
LOSS = Column("loss", "test loss", 3)
COLUMNS = (ERROR, LOSS, Column("parameters", "M parameters", 3, 1e-6), Column("flops", "M FLOPs", 1, 1e-6))
"""The columns of a study's table whose values `measure_classifier` gives."""
SKELETONS = (
    "gradient_descent",
    "heavy_ball(momentum=0.5)",
    "heavy_ball(momentum=0.9)",
    "nesterov_y(momentum=0.5)",
    "fista",
)
"""The algorithms that the small studies compare."""


def images(scale: Scale, train: int, test: int = 2000) -> dict[str, Any]:
    """The part of a cell that says which images: a few digits, the first so many of CIFAR-10, or all of them."""
    if scale == "smoke":
        return {"data": "digits", "train": 100, "test": 100}
    return {"data": "cifar10", "train": train, "test": test} if scale == "cpu" else {"data": "cifar10"}


def images_for_steps(scale: Scale, steps: int, batch: int = 64) -> dict[str, Any]:
    """The part of a cell with the images of so many steps: of Fashion-MNIST, or the digits at smoke scale."""
    test, name = (100, "digits") if scale == "smoke" else (2000, "fashion_mnist")
    return {"data": name, "train": steps * batch, "test": test}


def one_epoch(rate: float, batch: int, weight_decay: float = 0.0) -> Recipe:
    """A recipe of one epoch at a constant rate: as many steps as there are batches."""
    return Recipe(1, batch, SGD(rate, weight_decay=weight_decay), StepDecay(at=()), augmentation=Augmentation())


def first_batch(data: Data, samples: int = 64) -> tuple[Tensor, Tensor]:
    """The first training samples as a model sees them, and their classes."""
    train = cast(Arrays, data.train)
    return data.prepare(train.inputs[:samples]), train.targets[:samples]


def plain_network(
    width: int, depth: int, activation: type[nn.Module], data: Data, norm: Callable[[int], nn.Module] | None = None
) -> nn.Sequential:
    """A network of `depth` linear layers, an activation after each but the last, if need be behind a normalization."""
    widths = [math.prod(data.shape), *[width] * (depth - 1)]
    hidden = [(nn.Linear(a, b), *([norm(b)] if norm else []), activation()) for a, b in pairwise(widths)]
    return nn.Sequential(nn.Flatten(), *chain.from_iterable(hidden), nn.Linear(width, data.num_outputs))


def seeded_network(name: str, data: Data, cell: Cell, seed: int) -> UnrolledNetwork:
    """A named model for some data, wired by the algorithm of a cell; its weights are drawn from the seed."""
    torch.manual_seed(seed)
    return model_for(name, data, cell.get("algorithm"))


def train(
    model: nn.Module,
    data: Data,
    cell: Cell,
    seed: int,
    bench: Bench,
    resume: bool = True,
    method: Method | None = None,
    recipe: Recipe | None = None,
) -> FitResult:
    """Train a model in place by a recipe, by default the one in its cell; the seed decides every random choice.

    With `resume` there are checkpoints, from which an interrupted training goes on.
    """
    recipe = recipe or from_config(cell["recipe"])
    name = f"{zlib.crc32(json.dumps(cell, sort_keys=True).encode()):08x}-seed{seed}"
    run = bench.runs / name if resume else None
    callbacks = bench.callbacks(f"{_named_in(cell)} seed {seed}".strip())
    return fit(
        model,
        data,
        method=method,
        recipe=recipe,
        run=run,
        seed=seed,
        device=bench.device,
        callbacks=callbacks,
        progress=False,
    )


def _named_in(cell: Cell) -> str:
    """The words of a cell for a line of progress: its arm, or its model and algorithm."""
    names = ("group", "arm") if "arm" in cell else ("model", "algorithm")
    return " ".join(str(cell[name]) for name in (*names, STAGE) if name in cell)


def best_of_rates(
    create: Callable[[], nn.Module], data: Data, cell: Cell, seed: int, bench: Bench, method: Method | None = None
) -> tuple[Values, nn.Module | None]:
    """Train a new model at each learning rate of `cell["rates"]`: the best test accuracy, its rate, and its model."""
    best: Values = {"diverged": 1}
    model = None
    for rate in cell["rates"]:
        recipe = from_config(cell["recipe"])
        at_rate = {**cell, "recipe": as_config(replace(recipe, optimizer=replace(recipe.optimizer, lr=rate)))}
        try:
            result = train(create(), data, at_rate, seed, bench, resume=False, method=method)
        except NonFiniteLossError:
            continue
        if best.get("accuracy", -1) < cast(float, result.test_accuracy):
            best, model = {"accuracy": result.test_accuracy, "rate": f"{rate:g}"}, result.model
    return best, model


def train_classifier(model: nn.Module, data: Data, cell: Cell, seed: int, bench: Bench) -> Values:
    """Error, loss and size of a classifier, after training."""
    result = train(model, data, cell, seed, bench)
    assert result.test_accuracy is not None
    size = {"parameters": count_parameters(model), "flops": count_flops(model, data.shape, data.is_text)}
    return {"error": 1 - result.test_accuracy, "loss": result.test_loss, **size}


def measure_classifier(cell: Cell, seed: int, bench: Bench) -> Values:
    """Error, loss and size of the named model `cell["model"]`, trained with `cell["algorithm"]` if there is one."""
    data = bench.data_of(cell)
    return train_classifier(seeded_network(cell["model"], data, cell, seed), data, cell, seed, bench)
