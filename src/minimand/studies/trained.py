"""Cells that are measured by training a network."""

import json
import zlib
from typing import Any

from torch import nn

from ..data import Data
from ..training import FitResult, Recipe, fit
from ..training.recipe import as_config, from_config
from .bench import Bench
from .study import Cell


def kept(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, to be kept in a cell."""
    return as_config(recipe)


def train(model: nn.Module, data: Data, cell: Cell, seed: int, bench: Bench, resume: bool = True) -> FitResult:
    """Train a model by the recipe in its cell.

    Args:
        model: trained in place, on the bench's device.
        data: what on.
        cell: holds `recipe`.
        seed: of the order of the samples and every random choice.
        bench: says where.
        resume: keep checkpoints, so that an interrupted training goes on where it was.
    """
    recipe = from_config(cell["recipe"])
    name = f"{zlib.crc32(json.dumps(cell, sort_keys=True).encode()):08x}-seed{seed}"
    run = bench.runs / name if resume else None
    label = f"{cell.get('model', '')} {cell.get('algorithm', '')} seed {seed}".strip()
    return fit(model, data, recipe=recipe, run=run, seed=seed, device=bench.device, callbacks=bench.callbacks(label))
