"""The measurement of an arm of a decisive study by training a network: its recipe, its result, its operations."""

import copy
from dataclasses import replace
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..data import Arrays, Data
from ..data.samples import NoSamples
from ..networks import count_parameters
from ..recipes import Recipe, from_config
from ..training import Method, fit
from .held_out import STAGE
from .study import Bench, Cell, Values
from .trained import train


def recipe_of(cell: Cell) -> Recipe:
    """The recipe of a cell, with the cell's own `rate`, `momentum` and `epochs` where it has them."""
    recipe: Recipe = from_config(cell["recipe"])
    changes: dict[str, Any] = {}
    if "rate" in cell:
        changes["lr"] = cell["rate"]
    if "momentum" in cell:
        changes["momentum"] = cell["momentum"]
    if changes:
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, **changes))
    return replace(recipe, epochs=cell["epochs"]) if "epochs" in cell else recipe


def train_judged(
    model: nn.Module, data: Data, cell: Cell, seed: int, bench: Bench, method: Method | None = None, resume: bool = True
) -> Values:
    """Train the model of an arm by `recipe_of` its cell, and measure it on the test part of the data.

    Keys: accuracy, or None for a regression; loss; parameters; and in judged trainings flops and curve, which is the
    accuracy (or loss) after each epoch.
    """
    recipe = recipe_of(cell)
    is_judged = STAGE not in cell
    flops = {"flops": training_flops(model, data, recipe, method)} if is_judged else {}
    result = train(model, data, cell, seed, bench, resume, method, recipe)
    key = "test_loss" if result.test_accuracy is None else "test_accuracy"
    curve = {"curve": [round(record[key], 5) for record in result.history]} if is_judged else {}
    values = {"accuracy": result.test_accuracy, "loss": result.test_loss, "parameters": count_parameters(model)}
    return {name: value for name, value in values.items() if value is not None} | flops | curve


def training_flops(model: nn.Module, data: Data, recipe: Recipe, method: Method | None = None) -> int:
    """Floating-point operations of a training, forward and backward, without evaluations.

    Those of one epoch over one batch are counted, by a copy of the model, and multiplied by samples and epochs.
    """
    train = data.train
    assert isinstance(train, Arrays)
    count = min(recipe.batch_size, len(train))
    batch = Arrays(train.inputs[:count], train.targets[:count])
    short = replace(recipe, epochs=1, batch_size=count, accumulate=1, compile=False, validation=0.0, early_stopping=0)
    with FlopCounterMode(display=False) as counter:
        one = replace(data, train=batch, test=NoSamples())
        fit(copy.deepcopy(model), one, method=copy.deepcopy(method), recipe=short, device="cpu", progress=False)
    return round(counter.get_total_flops() / count * len(train) * recipe.epochs)
