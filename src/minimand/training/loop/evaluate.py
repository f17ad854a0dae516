"""Loss, accuracy and confusion of a model on samples."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...data import Data, Samples, as_data
from ...data.data import as_prepared
from ...recipes.recipe import Precision
from ..distributed.sharding import evaluation_mode
from ..distributed.world import World
from .losses import Loss, as_loss

_BATCH = 512


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on samples; accuracy from 0 to 1 and confusion (true, predicted) for classes only."""

    loss: float
    accuracy: float | None = None
    confusion: list[list[int]] | None = None


def evaluate(
    model: nn.Module,
    data: Any,
    *,
    samples: Samples | None = None,
    loss: str | Loss | None = None,
    precision: Precision = "fp32",
) -> Evaluation:
    """Run a model over samples, by default the test samples, in evaluation mode; its mode is restored.

    Arguments are as for `mm.fit` and `mm.Recipe`. Raises MinimandError for outputs that do not fit the data.
    """
    data = as_data(data)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    prepared = as_prepared(data, data.test if samples is None else samples, device)
    with autocast(device, precision):
        return evaluate_batches(model, data, prepared, as_loss(loss, data), World())


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs: bfloat16 autocast, or float32 as it is."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def evaluate_batches(model: nn.Module, data: Data, samples: Samples, judge: Loss, world: World) -> Evaluation:
    """Run a model over samples whose batches are prepared, shared by the processes of a world."""
    share, counts = world.evaluation_share(samples, _BATCH)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    classes = len(data.classes)
    total = torch.zeros((), device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.long, device=device)
    count = 0
    with evaluation_mode(model), torch.inference_mode():
        for x, y in samples.batches(_BATCH, share=share):
            outputs = model(x).float()
            total += judge(outputs, y) * len(y)
            count += len(y)
            if data.task == "classification":
                confusion += torch.bincount(y * classes + outputs.argmax(1), minlength=classes**2)
    sums = torch.cat([total.double().view(1), confusion.new_tensor([count]), confusion]) * counts
    total_loss, total_count, *confused = world.all_reduce(sums).tolist()
    if data.task != "classification":
        return Evaluation(total_loss / total_count)
    rows = [list(map(int, confused[c * classes : (c + 1) * classes])) for c in range(classes)]
    return Evaluation(total_loss / total_count, sum(rows[c][c] for c in range(classes)) / total_count, rows)
