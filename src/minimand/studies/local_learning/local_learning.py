"""Local learning decided: against end-to-end training of as many operations, and of as much memory."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ..._support.style import COLORS, Figure, legend_below, literal, new_figure, plain
from ...data import Arrays, Data
from ...experiments import (
    Bench,
    Cell,
    Claim,
    Column,
    DecisiveStudy,
    FiguresByCaption,
    Measurements,
    Scale,
    Trials,
    Values,
)
from ...experiments.deciding.judged import recipe_of, train_judged
from ...experiments.statistics.held_out import STAGE
from ...experiments.statistics.paired import interval_of
from ...experiments.trained import PARAMETERS, images
from ...layers import SpaceToDepth
from ...recipes import SGD, Augmentation, Recipe, as_config
from ...report import peak_saved_bytes
from ...training import Backpropagation, Decoupled, DeepSupervision, Layerwise, Method
from ...training.loop.evaluate import autocast

_WHOLE, _PARTS, _LAYERWISE = "end to end", "end to end, in parts", "layer by layer"
_DECOUPLED, _SUPERVISED = "all at once", "end to end, with the heads"
_LATER, _MOMENTUM = "all at once, AugLocal", "all at once, MAN"
ARMS: dict[str, tuple[Method, float]] = {
    _WHOLE: (Backpropagation(), 1.0),
    _PARTS: (Backpropagation(), 1.0),
    _LAYERWISE: (Layerwise(auxiliary="mlp_sr"), 1.62),
    _DECOUPLED: (Decoupled(), 0.86),
    _SUPERVISED: (DeepSupervision(), 1.14),
    _LATER: (Decoupled(auxiliary="auglocal"), 1.66),
    _MOMENTUM: (Decoupled(auxiliary="momentum"), 2.23),
}
"""The method of each arm, and the operations of an epoch (of each block where they follow one another) in those of an
epoch end to end at cpu scale, as `training_flops` counts them."""
PARTS = 3
"""The parts of a batch with which training end to end keeps no more than training layer by layer."""
_ACCURACY, _KEPT = Column("accuracy", "test accuracy %", 2, 100), Column("kept", "kept for backward, MB", 1, 1e-6)
_RATES = tuple(0.2 * 2.0**k for k in range(-2, 3))


def epochs_of(arm: str, budget: int) -> int:
    """The epochs of an arm, of each block where they follow one another, whose operations come closest to a budget."""
    return max(1, round(budget / ARMS[arm][1]))


def _cells(scale: Scale) -> list[Cell]:
    budgets, width, batch = {"smoke": ((1,), 4, 48), "cpu": ((5, 10, 20), 16, 128), "paper": ((50, 160), 128, 128)}[
        scale
    ]
    settings = {"width": width, **images(scale, 30_000, 10_000)}
    augmentation = Augmentation() if scale == "smoke" else Augmentation(pad=4, flip=True)
    cells: list[Cell] = []
    for budget in budgets:
        for arm in list(ARMS)[:5] if scale == "smoke" else ARMS:
            parts = PARTS if arm == _PARTS else 1
            size, optimizer = -(-batch // parts), SGD(0.2, weight_decay=5e-4)
            precision = "fp32" if scale == "smoke" else "bf16"
            recipe = Recipe(1, size, optimizer, accumulate=parts, augmentation=augmentation, precision=precision)
            own = {"group": f"{budget} epochs", "arm": arm, "epochs": epochs_of(arm, budget)}
            cells.append({**own, **settings, "recipe": as_config(recipe)})
    return cells


def _trials(cell: Cell, scale: Scale) -> Trials:
    """Learning rates, at the smallest budget; none at smoke scale."""
    shortest = next(c["epochs"] for c in _cells(scale) if c["arm"] == cell["arm"])
    smallest = next(c["group"] for c in _cells(scale))
    rates = _RATES[:1] if scale == "smoke" else _RATES
    return Trials([{"rate": rate} for rate in rates], {"epochs": shortest, "group": smallest})


def network(width: int, data: Data) -> nn.Sequential:
    """Five convolutions with batch normalization on images halved without loss; the 3rd and 5th halve and widen."""
    channels = [4 * data.shape[0], width, width, 2 * width, 2 * width, 4 * width]
    blocks = [
        nn.Sequential(
            *([nn.MaxPool2d(2)] if j in (2, 4) else []),
            nn.Conv2d(channels[j], channels[j + 1], 3, padding=1, bias=False),
            nn.BatchNorm2d(channels[j + 1]),
            nn.ReLU(),
        )
        for j in range(5)
    ]
    head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * width, data.num_outputs))
    return nn.Sequential(SpaceToDepth(), *blocks, *head)


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data, (method, _) = bench.data_of(cell), ARMS[cell["arm"]]
    torch.manual_seed(seed)
    model = network(cell["width"], data)
    values = train_judged(model, data, cell, seed, bench, method, resume=cell["data"] != "digits")
    return values if STAGE in cell else values | {"kept": kept_bytes(cell, data)}


def kept_bytes(cell: Cell, data: Data) -> int:
    """The bytes that autograd keeps at once for a batch of an arm, or a part of it, at the most of all its problems."""
    method, recipe = ARMS[cell["arm"]][0], recipe_of(cell)
    model, train = network(cell["width"], data), data.train
    assert isinstance(train, Arrays)
    x, y = data.prepare(train.inputs[: recipe.batch_size]), train.targets[: recipe.batch_size]
    plan = method.plan(model, lambda: x[:4], data.num_outputs, 1)
    own = nn.ModuleList([model, plan.saved])

    def compute(module: nn.Module) -> None:
        with autocast(x.device, recipe.precision):
            method.backward(module.train(), x, y, F.cross_entropy)

    return max(peak_saved_bytes(partial(compute, problem.module), own) for problem in plan.problems)


def _figures(measurements: Measurements) -> FiguresByCaption:
    judged = [m for m in measurements if STAGE not in m.cell and "kept" in m.values]
    caption = "Test accuracy against what is kept for the backward pass: mean and 95 % interval over seeds"
    return {caption: _against_memory(judged)} if judged else {}


def _against_memory(judged: Measurements) -> Figure:
    groups = list(dict.fromkeys(m.cell["group"] for m in judged))
    figure = new_figure(1.5 + 3.2 * len(groups), 3.0 + 0.2 * len(ARMS))
    for axes, group in zip(figure.subplots(1, len(groups), sharey=True, squeeze=False)[0], groups, strict=True):
        plain(axes)
        for arm, color in zip(ARMS, COLORS * 2, strict=False):
            values: Sequence[float] = [
                100 * m.values["accuracy"] for m in judged if (m.cell["group"], m.cell["arm"]) == (group, arm)
            ]
            if not values:
                continue
            size = next(m.values["kept"] for m in judged if (m.cell["group"], m.cell["arm"]) == (group, arm))
            mean, (low, _) = sum(values) / len(values), interval_of(values)
            axes.errorbar([size / 1e6], [mean], [mean - low], fmt="o", color=color, capsize=3, label=literal(arm))
        axes.set_title(group, fontsize=9)
        axes.set_xlabel("MB kept")
        axes.set_xlim(0, None)
    figure.axes[0].set_ylabel(_ACCURACY.heading)
    legend_below(figure)
    return figure


_CLAIMS = (
    Claim("layer by layer is as accurate as end to end", _LAYERWISE, _WHOLE, "equal", "belilovsky2019greedy"),
    Claim("all at once is as accurate as end to end", _DECOUPLED, _WHOLE, "equal", "belilovsky2020decoupled"),
    Claim("AugLocal's heads are as accurate as end to end", _LATER, _WHOLE, "equal", "ma2024auglocal"),
    Claim("AugLocal's heads are better than plain ones", _LATER, _DECOUPLED, "higher", "ma2024auglocal"),
    Claim("MAN's heads are better than plain ones", _MOMENTUM, _DECOUPLED, "higher", "su2024man"),
    Claim("auxiliary heads help end-to-end training", _SUPERVISED, _WHOLE, "higher", "lee2015deeply"),
    Claim("with the same heads, gradients between the blocks help", _SUPERVISED, _DECOUPLED, "higher"),
    Claim("in the same memory, parts of a batch are better than layers", _PARTS, _LAYERWISE, "higher"),
)

STUDY = DecisiveStudy(
    "local_learning",
    "Local learning, decided: as many operations, as much memory, and the same heads with gradients between",
    "A plain network of five convolutions (16 to 64 channels, batch normalization) on the first 30,000 images of "
    "CIFAR-10 (all 10,000 test images), padded crops and flips, batches of 128, SGD with momentum and weight decay "
    "5e-4, bfloat16 autocast, a rate that rises and falls once in each training, and in each block's where blocks "
    "follow one another. A budget of so many epochs is the floating-point operations of as many epochs end to end; "
    "each arm has the whole number of epochs that comes closest (layer by layer so many for each block), and the "
    "table has the operations. Heads are `mlp_sr`, but for AugLocal (copies of one later layer, and of those between "
    "that change the shape) and MAN. In parts: three parts of 43 images, one after another, of each batch of 129, "
    "which keeps no more than layer by layer; normalization sees a part. What is kept is counted by saved-tensor "
    "hooks while a batch runs forward and backward: each storage once, without parameters, the most of any block.\n\n"
    "Rates are five a factor of two apart around 0.2, chosen for each arm by the accuracy on a fifth of the training "
    "images at the budget of 5 epochs, and used at all three. Five other seeds judge. Differences within 1 point count "
    "as none. The published equalities are of much wider networks (128 channels and more) and 50 to 400 epochs, which "
    "is the paper scale here.",
    (
        "belilovsky2019greedy",
        "belilovsky2020decoupled",
        "ma2024auglocal",
        "su2024man",
        "lee2015deeply",
    ),
    _cells,
    _measure,
    ("group", "arm"),
    (_ACCURACY, _KEPT, PARAMETERS),
    figures=_figures,
    claims=_CLAIMS,
    trials=_trials,
    margin=1.0,
    seeds=5,
)
