"""Networks of steps that run on bits: accuracy against speed against size."""

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from ..._support.style import one_panel
from ...data import Arrays, Data
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...experiments.trained import ACCURACY, images, train
from ...inference import PackedModel, pack
from ...layers import Sign
from ...models import convnet8
from ...networks import count_parameters
from ...recipes import AdamW, Augmentation, Recipe, StepDecay, as_config
from ...recipes.registry import recipe as named_recipe
from ...surgery import harden
from ...training import TargetPropagation

_SHORT = Recipe(1, 32, AdamW(1e-3, weight_decay=5e-4), StepDecay(()), augmentation=Augmentation())
_BATCH, _ROUNDS = 64, 15


def _cells(scale: Scale) -> list[Cell]:
    recipe = as_config(named_recipe("friesen2018") if scale == "paper" else _SHORT)
    shared = {**images(scale, 6000, 1000), "enlarged": 4 if scale == "smoke" else 1, "recipe": recipe}
    rows = [
        ("ReLU, as it is", False, None, None),
        ("sign, 8 bits after training", True, None, 8),
        ("sign, 8 bits", True, 8, None),
        ("sign, 1 bit", True, 1, None),
    ]
    return [
        {"network": name, "steps": steps, "weights": weights, "rounded": rounded, **shared}
        for name, steps, weights, rounded in (rows[::3] if scale == "smoke" else rows)
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    torch.manual_seed(seed)
    model = convnet8(data.num_outputs, data.shape[0])
    reference = convert_conv2d_weight_memory_format(copy.deepcopy(model).eval(), torch.channels_last)
    if steps := cell["steps"]:
        harden(model, Sign(), cell["weights"])
    result = train(model, data, cell, seed, bench, method=TargetPropagation() if steps else None)
    model = result.model.cpu().eval()
    fast = pack(model, cell["rounded"]) if steps else model
    whole = bench.data(cell["data"], enlarged=cell["enlarged"])  # every test image, whatever training looks at
    same, right = _outcomes(model, fast, whole)
    x = whole.prepare(cast(Arrays, whole.test).inputs[:_BATCH]).contiguous(memory_format=torch.channels_last)
    return {
        "accuracy": right,
        "same": same,
        "speed": _times_as_fast(fast, reference, x) if steps else 1.0,
        "size": sum(fast.sizes().values()) if isinstance(fast, PackedModel) else 4 * count_parameters(model),
    }


@torch.inference_mode()
def _outcomes(model: nn.Module, fast: nn.Module, data: Data) -> tuple[float, float]:
    """The number of the fast model's predictions that are the model's, and of those that are right."""
    test = cast(Arrays, data.test)
    same = right = 0
    for inputs, targets in test.batches(500):
        x = data.prepare(inputs)
        predicted = fast(x).argmax(1)
        same += int((predicted == (predicted if fast is model else model(x).argmax(1))).sum())
        right += int((predicted == targets).sum())
    return same / len(test), right / len(test)


@torch.inference_mode()
def _times_as_fast(fast: nn.Module, reference: nn.Module, x: Tensor) -> float:
    """The median over rounds, in which the two take turns, of the ratio of their processor times."""

    def seconds(run: Callable[[Tensor], Any]) -> float:
        began = time.process_time()
        run(x)
        return time.process_time() - began

    return statistics.median([seconds(reference) / seconds(fast) for _ in range(_ROUNDS + 3)][3:])


def _figures(measurements: Measurements) -> FiguresByCaption:
    figure, axes = one_panel(6, 4)
    for name in dict.fromkeys(m.cell["network"] for m in measurements):
        of_network = [m.values for m in measurements if m.cell["network"] == name]
        x, y = ([v[key] for v in of_network] for key in ("speed", "accuracy"))
        area = of_network[0]["size"] / 5e4 + 10
        axes.scatter(x, [100 * value for value in y], area, alpha=0.7, label=name)
    axes.set(xlabel="times as fast as ReLU in float32", ylabel="test accuracy %")
    axes.legend()
    return {"Each seed a disc, its area the size": figure}


STUDY = Study(
    "packed",
    "Networks of steps that run on bits: accuracy, speed and size",
    "DoReFa-Net's network of eight layers (convnet8), trained on the first 6,000 images of CIFAR-10 for one epoch of "
    "Adam in batches of 32 without augmentation at cpu scale, on all of them for 300 at paper scale; with steps by "
    "target propagation (soft hinge). Then packed, and run on the 10,000 test images: `same` is how many of its "
    "predictions are the trained network's. Weights rounded to 8 bits after training are another network than the "
    "trained one. Speed is the median ratio of processor times to the ReLU network in float32, batches of 64, channels "
    "last, in turns; size is what the file has to hold.",
    ("friesen2018", "zhou2016dorefa"),
    _cells,
    _measure,
    ("network",),
    (ACCURACY, Column("same", "same %", 2, 100), Column("speed", "times as fast"), Column("size", "kB", 0, 1e-3)),
    published=None,
    figures=_figures,
)
