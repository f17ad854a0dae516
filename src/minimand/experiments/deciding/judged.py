"""The measurement of an arm of a decisive study by training a network: its recipe, its result, its operations."""

from dataclasses import replace
from typing import Any

from torch import nn

from ...data import Data
from ...networks import count_parameters
from ...recipes import Recipe, from_config
from ...training import Method
from ..comparing.budget import training_flops
from ..statistics.held_out import STAGE
from ..study import Bench, Cell, Values
from ..trained import train


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
    curve = {"curve": [float(f"{record[key]:.5g}") for record in result.history]} if is_judged else {}
    values = {"accuracy": result.test_accuracy, "loss": result.test_loss, "parameters": count_parameters(model)}
    return {name: value for name, value in values.items() if value is not None} | flops | curve
