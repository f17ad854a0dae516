"""Loss, accuracy and confusion of a model on samples."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError
from ..._support.torch.modes import evaluation_mode
from ...data import Data, Samples, as_data, tensor_of
from ...data.data import as_prepared
from ...data.samples import NO_CLASS
from ...recipes.recipe import Precision, TestViews, as_precision
from ..distributed.world import World
from .losses import Loss, aligned, as_loss, predicted, weight_of
from .views import call_on_views, check_views

_BATCH = 512
_LOGITS = 2**26  # the most logits of a batch of windows of text
_COLUMNS = (
    "epoch",
    "step",
    "problem",
    "seconds",
    *(f"{a}_{b}" for a in ("train", "test") for b in ("loss", "accuracy")),
)
_CLASSES_IN_PAIRS = 2048  # of more classes no confusion is kept


Metrics = Mapping[str, Callable[[Tensor, Tensor], Any]]
"""Measures by name: functions of the outputs and the targets of all samples together to a number."""


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on samples; accuracy from 0 to 1 and confusion (true, predicted) for classes only."""

    loss: float
    """The mean over the samples, or, of a class for each place, over the places: nats a token of a text."""
    accuracy: float | None = None
    confusion: list[list[int]] | None = None
    """None for a regression, and where the classes are too many to count in pairs."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """The caller's own metrics; None for one that is NaN or infinite, as of samples without any of a class. Of a text
    also its bits a byte and nats a character."""


def evaluate(
    model: nn.Module,
    data: Any,
    *,
    samples: Samples | None = None,
    loss: str | Loss | None = None,
    precision: Precision = "auto",
    metrics: Metrics | None = None,
    test_views: TestViews = 1,
) -> Evaluation:
    """Run a model over samples, by default the test samples, in evaluation mode; its mode is restored.

    Arguments are as for `mm.fit` and `mm.Recipe`. Raises MinimandError for outputs that do not fit the data, and where
    there are no samples.
    """
    data = as_data(data).for_model(model)
    judged = data.test if samples is None else samples
    if not hasattr(judged, "batches"):
        raise WrongTypeError(
            f"samples is {type(judged).__name__}; expected those of some mm.Data, such as data.train. Others are data "
            "by themselves: mm.evaluate(model, (train, test))."
        )
    if len(judged) == 0:
        raise MinimandError(f"{data.name} has no test samples; expected some, or samples=data.train.")
    check_views(test_views, data, "test_views")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with autocast(device, as_precision(precision, data, model, device)):
        judge, prepared = as_loss(loss, data), as_prepared(data, judged, device)
        return evaluate_batches(model, data, prepared, judge, World(), as_metrics(metrics), test_views)


def as_metrics(metrics: Any) -> Metrics:
    """The metrics of an argument, which may be None; raises MinimandError for what is no mapping of functions."""
    if metrics is None:
        return {}
    wrong = "" if isinstance(metrics, Mapping) else f"metrics is {type(metrics).__name__}"
    for name, metric in metrics.items() if not wrong else ():
        if not callable(metric):
            wrong = f"metrics has a {type(metric).__name__} as {name!r}"
    if wrong:
        raise WrongTypeError(f'{wrong}; expected functions of (outputs, targets) by name, as in {{"f1": my_f1}}.')
    if taken := [name for name in metrics if name in _COLUMNS or not isinstance(name, str)]:
        raise MinimandError(f"metrics has {taken[0]!r}, which the history has already; expected another name.")
    return metrics


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs: bfloat16 autocast, or float32 as it is."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def evaluate_batches(
    model: nn.Module,
    data: Data,
    samples: Samples,
    judge: Loss,
    world: World,
    metrics: Metrics = MappingProxyType({}),
    test_views: TestViews = 1,
) -> Evaluation:
    """Run a model over samples whose batches are prepared, shared by the processes of a world."""
    size = _BATCH if data.text is None else max(min(_LOGITS // (data.shape[0] * data.num_outputs), _BATCH), 1)
    share, counts = world.evaluation_share(samples, size)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    counted = torch.zeros(4, dtype=torch.double, device=device)
    confusion = torch.zeros(0, 0, dtype=torch.long, device=device)
    judged: list[tuple[Tensor, Tensor]] = []
    with evaluation_mode(model), torch.inference_mode():
        for x, y in samples.batches(size, share=share):
            returned = call_on_views(model, x, test_views)
            outputs = tensor_of(returned).float()
            loss = judge(outputs if isinstance(returned, Tensor) else returned, y)
            weight = torch.as_tensor(weight_of(y, isinstance(x, dict)), dtype=torch.double, device=y.device)
            counted[:2] += torch.stack([torch.where(weight > 0, loss.double() * weight, 0.0), weight])
            if data.judged_by_accuracy and (y.ndim == 1 or not isinstance(x, dict)):
                confusion = _confused(confusion, counted, *aligned(outputs, y, data))
            if metrics:
                judged.append((outputs.cpu(), y.cpu()))
    total, count, right, places, *confused = world.all_reduce(
        torch.cat([counted, confusion.flatten()]) * counts
    ).tolist()
    accuracy = right / places if places else None
    n = len(confusion)
    rows = [list(map(int, confused[c * n : (c + 1) * n])) for c in range(n)] or None
    loss, measures = total / count, {} if data.text is None else data.text.measures(total / count)
    return Evaluation(loss, accuracy, rows, measures | _measured_together(metrics, judged, share, world))


def _confused(confusion: Tensor, counted: Tensor, outputs: Tensor, y: Tensor) -> Tensor:
    """Add a batch to the counts of right answers and places, and to the confusion (true, predicted)."""
    guess, y = predicted(outputs).flatten(), y.long().flatten()
    guess, y = guess[y != NO_CLASS], y[y != NO_CLASS]
    counted[2:] += torch.stack([(guess == y).sum(), torch.tensor(len(y), device=y.device)])
    classes = max(outputs.shape[1] if outputs.ndim > 1 else 2, 2)
    if classes > _CLASSES_IN_PAIRS:
        return confusion
    pairs = torch.bincount(y * classes + guess, minlength=classes**2).view(classes, classes)
    return pairs if len(confusion) == 0 else confusion + pairs


def _measured_together(
    metrics: Metrics, judged: list[tuple[Tensor, Tensor]], share: slice, world: World
) -> dict[str, float | None]:
    """The metrics of what all processes judged together, measured in rank 0, which the others send theirs to."""
    if not metrics or world.batch_shares == world.pipeline_stages == 1:
        return _measured(metrics, judged)
    if world.batch_shares > 1 and share != slice(None):
        by_rank = world.gather(judged)
        batches = [list(zip(*parts, strict=True)) for parts in zip(*by_rank, strict=True)]
        judged = [(_interleaved(outputs), _interleaved(targets)) for outputs, targets in batches]
    return world.on_main(lambda: _measured(metrics, judged))


def _interleaved(parts: Sequence[Tensor]) -> Tensor:
    """The rows of a batch in their order, of which each of n processes had every n-th."""
    rows = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    for rank, part in enumerate(parts):
        rows[rank :: len(parts)] = part
    return rows


def _measured(metrics: Metrics, judged: list[tuple[Tensor, Tensor]]) -> dict[str, float | None]:
    """The value of each metric on all outputs and targets together; None where it is NaN or infinite."""
    if not metrics:
        return {}
    outputs, targets = (torch.cat(parts) for parts in zip(*judged, strict=True))
    values: dict[str, float | None] = {}
    for name, metric in metrics.items():
        try:
            value = float(metric(outputs, targets))
        except Exception as error:
            shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
            raise MinimandError(
                f"the metric {name!r} fails on {shapes} ({type(error).__name__}: {error}); expected a number."
            ) from error
        values[name] = value if math.isfinite(value) else None
    return values
