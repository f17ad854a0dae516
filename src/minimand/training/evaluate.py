"""Loss, accuracy and confusion of a model on samples."""

from dataclasses import dataclass

import torch
from torch import nn

from ..data import Data, Samples
from .losses import Loss


@dataclass(frozen=True)
class Evaluation:
    """What a model does on samples; accuracy from 0 to 1 and confusion (true, predicted) for classes only."""

    loss: float
    accuracy: float | None = None
    confusion: list[list[int]] | None = None


_BATCH = 512


def evaluate(model: nn.Module, data: Data, samples: Samples, loss: Loss, bf16: bool = False) -> Evaluation:
    """Run a model over samples in evaluation mode; its mode is restored."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    classes = len(data.classes)
    total = torch.zeros((), device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.long, device=device)
    seen, training = 0, model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            for inputs, targets in samples.batches(_BATCH):
                x, y = data.prepare(inputs.to(device)), targets.to(device)
                outputs = model(x)
                total += loss(outputs.float(), y) * len(y)
                seen += len(y)
                if data.task == "classification":
                    confusion += torch.bincount(y * classes + outputs.argmax(1), minlength=classes**2)
    finally:
        model.train(training)
    if data.task != "classification":
        return Evaluation(float(total) / seen)
    table = confusion.view(classes, classes)
    return Evaluation(float(total) / seen, float(table.diagonal().sum()) / seen, table.tolist())
