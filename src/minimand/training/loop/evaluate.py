"""Loss, accuracy and confusion of a model on samples."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...data.conversion import as_data
from ...data.samples import Samples
from ...recipes.recipe import Precision
from ..distributed.ranks import Ranks
from ..methods.local.activations import prepared
from .losses import Loss, as_loss


@dataclass(frozen=True)
class Evaluation:
    """What a model does on samples; accuracy from 0 to 1 and confusion (true, predicted) for classes only."""

    loss: float
    accuracy: float | None = None
    confusion: list[list[int]] | None = None


_BATCH = 512


def evaluate(
    model: nn.Module,
    data: Any,
    samples: Samples | None = None,
    loss: str | Loss | None = None,
    precision: Precision = "fp32",
    ranks: Ranks | None = None,
) -> Evaluation:
    """Run a model over samples in evaluation mode; its mode is restored.

    Args:
        model: from a batch to outputs (N, classes), or (N, d) for a regression.
        data: as for `mm.fit`.
        samples: by default the test samples of the data.
        loss: as for `mm.fit`.
        precision: "bf16" runs the model under bfloat16 autocast.
        ranks: the processes that share the work, within `mm.fit`.

    Raises:
        ValueError: outputs of another shape, or targets that are no classes of the data.
    """
    data = as_data(data)
    judged: Samples = data.test if samples is None else samples
    ranks = ranks or Ranks()
    share, counts = ranks.evaluated(judged, _BATCH)
    judge = as_loss(loss, data)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    classes = len(data.classes)
    total = torch.zeros((), device=device)
    right = torch.zeros((), dtype=torch.long, device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.long, device=device)
    seen, training = 0, model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for inputs, targets in judged.batches(_BATCH, share=share):
                x, y = prepared(data, inputs.to(device)), targets.to(device)
                if data.task == "classification":
                    y = y.long()
                    data.check_classes(y)
                outputs = model(x).float()
                total += judge(outputs, y) * len(y)
                seen += len(y)
                if data.task == "classification":
                    predicted = outputs.argmax(1)
                    right += (predicted == y).sum()
                    confusion += torch.bincount(y * classes + predicted, minlength=classes**2)
    finally:
        model.train(training)
    found = torch.cat([total.double().view(1), right.new_tensor([seen, right]), confusion]) * counts
    total, seen, right, *confused = ranks.sum(found).tolist()
    if data.task != "classification":
        return Evaluation(total / seen)
    rows = [list(map(int, confused[c * classes : (c + 1) * classes])) for c in range(classes)]
    return Evaluation(total / seen, right / seen, rows)
