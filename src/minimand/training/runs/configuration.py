"""The configuration of a run, as plain values: the same configuration is the same run."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ...data.data import Data
from ...recipes.recipe import Recipe, as_config
from ...surgery.rewire import rewired
from ..loop.losses import Loss
from ..methods.method import Method
from . import fingerprint

UNKNOWN = "unknown"
"""The fingerprint of what has none."""


def configuration(
    model: nn.Module,
    data: Data,
    method: Method,
    recipe: Recipe,
    loss: str | Loss | None,
    seed: int,
    device: torch.device,
    pipeline_stages: int = 1,
) -> dict[str, Any]:
    """What decides the result of a run; `fingerprints` stand for the code and the tensors in it."""
    config = getattr(model, "config", None)
    own_loss = None if isinstance(loss, str | None) else loss
    prints = {"algorithm": fingerprint.of_model(model), "data": fingerprint.of_data(data)}
    if not data.loaded and prints["data"] is None:
        prints["data"] = UNKNOWN
    if own_loss is not None:
        prints["loss"] = fingerprint.of_loss(own_loss, data, device) or UNKNOWN
    wiring = rewired(model)
    wired = {}
    if wiring is not None:
        wired["rewired"] = [f"{' '.join(n)}: {a}" for n, a in zip(wiring.runs, wiring.originals, strict=True)]
    return {
        "model": dict(config) if isinstance(config, Mapping) else {"class": type(model).__qualname__},
        **wired,
        "data": dict(data.loaded) or {"shape": list(data.shape), "train": len(data.train), "test": len(data.test)},
        "method": as_config(method),
        "recipe": as_config(recipe),
        "loss": loss if own_loss is None else _name(own_loss),
        "seed": seed,
        **({"ranks": pipeline_stages} if pipeline_stages > 1 else {}),
        "fingerprints": {name: value for name, value in prints.items() if value is not None},
    }


def unchecked(config: Mapping[str, Any]) -> list[str]:
    """The parts of a configuration that may have changed without a fingerprint that tells."""
    return [name for name, value in config["fingerprints"].items() if value == UNKNOWN]


def _name(function: Any) -> str:
    if isinstance(function, partial):
        return _name(function.func)
    return getattr(function, "__qualname__", type(function).__qualname__)
