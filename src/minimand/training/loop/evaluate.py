"""Loss, accuracy and confusion of a model on samples."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...data.conversion import as_data
from ...data.data import Data, as_prepared
from ...data.samples import Samples
from ...recipes.recipe import Precision
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
    samples: Samples | None = None,
    loss: str | Loss | None = None,
    precision: Precision = "fp32",
) -> Evaluation:
    """Run a model over samples in evaluation mode; its mode is restored.

    Args:
        model: from a batch to outputs (N, classes), or (N, d) for a regression.
        data: as for `mm.fit`.
        samples: by default the test samples of the data.
        loss: as for `mm.fit`.
        precision: "bf16" runs the model under bfloat16 autocast.

    Raises:
        MinimandError: outputs of another shape, or targets that are no classes of the data.
    """
    data = as_data(data)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    prepared = as_prepared(data, data.test if samples is None else samples, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        return evaluate_batches(model, data, prepared, as_loss(loss, data), World())


def evaluate_batches(model: nn.Module, data: Data, samples: Samples, judge: Loss, world: World) -> Evaluation:
    """Run a model over samples whose batches are prepared, shared by the processes of a world."""
    share, counts = world.evaluation_share(samples, _BATCH)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    classes = len(data.classes)
    total = torch.zeros((), device=device)
    right = torch.zeros((), dtype=torch.long, device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.long, device=device)
    count, training = 0, model.training
    model.eval()
    try:
        with torch.inference_mode():
            for x, y in samples.batches(_BATCH, share=share):
                outputs = model(x).float()
                total += judge(outputs, y) * len(y)
                count += len(y)
                if data.task == "classification":
                    predicted = outputs.argmax(1)
                    right += (predicted == y).sum()
                    confusion += torch.bincount(y * classes + predicted, minlength=classes**2)
    finally:
        model.train(training)
    sums = torch.cat([total.double().view(1), right.new_tensor([count, right]), confusion]) * counts
    total_loss, total_count, total_right, *confused = world.all_reduce(sums).tolist()
    if data.task != "classification":
        return Evaluation(total_loss / total_count)
    rows = [list(map(int, confused[c * classes : (c + 1) * classes])) for c in range(classes)]
    return Evaluation(total_loss / total_count, total_right / total_count, rows)
