"""Greedy layerwise learning against end-to-end training of the same networks (Belilovsky et al. 2019)."""

import statistics
from dataclasses import replace

import torch

from ..._support.style import COLORS, draw_mean_and_range, one_panel
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...experiments.trained import ACCURACY, images, train
from ...models import create_model
from ...networks import count_parameters
from ...recipes import SGD, as_config, from_config
from ...recipes.registry import recipe as named_recipe
from ...training import Layerwise

_GREEDY, _WHOLE, _LONG = "layer by layer", "end to end", "end to end, as many steps in all"
_PUBLISHED = {
    ("greedy_cifar", 1, _GREEDY): "88.3 (ensemble 88.4)",
    ("greedy_cifar", 2, _GREEDY): "90.4 (ensemble 90.7)",
    ("greedy_cifar", 3, _GREEDY): "91.7 (ensemble 92.8)",
    ("greedy_imagenet", 1, _GREEDY): "58.1 (ensemble 59.3)",
    ("greedy_imagenet", 2, _GREEDY): "65.7 (ensemble 67.1)",
    ("greedy_imagenet", 3, _GREEDY): "69.7 (ensemble 71.6)",
    ("greedy_imagenet", 3, _WHOLE): "71.5, with a head of 512",
    ("vgg11_bn", 3, _GREEDY): "67.6 (ensemble 70.1), recalled",
    ("vgg11_bn", 3, _WHOLE): "67.9",
}


def _cells(scale: Scale) -> list[Cell]:
    if scale == "paper":
        small = {"data": "cifar10", "recipe": as_config(named_recipe("belilovsky2019"))}
        large = {"data": "imagenet", "recipe": as_config(named_recipe("belilovsky2019", images="imagenet"))}
        networks = [
            *(("greedy_cifar", k, small) for k in (1, 2, 3)),
            *(("greedy_imagenet", k, large) for k in (1, 2, 3)),
            ("vgg11_bn", 3, large),
        ]
    else:
        epochs, batch = (1, 50) if scale == "smoke" else (6, 64)
        short = replace(named_recipe("belilovsky2019", epochs=epochs), batch_size=batch, optimizer=SGD(0.05))
        small = {**images(scale, 3000), "recipe": as_config(short)}
        networks = [("greedy_cifar", k, {"width": 16 if k == 1 else 8, **small}) for k in (1, 2, 3)]
    return [
        {"network": network, "k": k, "training": training, **settings}
        for network, k, settings in networks
        for training in (_GREEDY, _WHOLE, *([_LONG] if k == 2 else []))
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    torch.manual_seed(seed)
    is_vgg = cell["network"].startswith("vgg")
    settings = {} if is_vgg else {"k": cell["k"], "width": cell.get("width")}
    model = create_model(cell["network"], num_classes=data.num_outputs, in_channels=data.shape[0], **settings)
    averaged = "probabilities" if cell["data"] == "imagenet" else "logits"
    auxiliary = "vgg" if is_vgg else "cnn"
    greedy = Layerwise(cell["k"], auxiliary, ensemble=averaged)
    if cell["training"] == _LONG:
        recipe = from_config(cell["recipe"])
        problems = greedy.plan(model, data.example, data.num_outputs, recipe.epochs).problems
        long = replace(recipe, epochs=sum(problem.epochs for problem in problems))
        cell = {**cell, "recipe": as_config(long)}
    method = greedy if cell["training"] == _GREEDY else None
    result = train(model, data, cell, seed, bench, method=method)
    last = {record.get("problem", 0): record["test_accuracy"] for record in result.history}
    together = result.ensemble_evaluation
    return {
        "accuracy": result.test_accuracy,
        "ensemble": "one classifier" if together is None else together.accuracy,
        "parameters": count_parameters(model),
        "classifiers": list(last.values()),
    }


def _figures(measurements: Measurements) -> FiguresByCaption:
    figure, axes = one_panel(5.5, 3.4)
    for network, k in dict.fromkeys((m.cell["network"], m.cell["k"]) for m in measurements):
        here = [m for m in measurements if (m.cell["network"], m.cell["k"]) == (network, k)]
        greedy = [m.values["classifiers"] for m in here if m.cell["training"] == _GREEDY and "classifiers" in m.values]
        whole = [m.values["accuracy"] for m in here if m.cell["training"] == _WHOLE and "accuracy" in m.values]
        by_block = [[100 * accuracy for accuracy in seeds] for seeds in zip(*greedy, strict=True)]
        draw_mean_and_range(axes, range(1, 1 + len(by_block)), by_block, COLORS[k], f"k = {k}")
        if whole:
            axes.axhline(100 * statistics.mean(whole), color=COLORS[k], linestyle=":", linewidth=1)
    axes.set(xlabel="block", ylabel="test accuracy % of its classifier")
    axes.locator_params("x", integer=True)
    axes.legend(frameon=False, fontsize=8)
    return {"Test accuracy of the classifier above each block, mean and range of the seeds; dotted: end to end": figure}


STUDY = Study(
    "greedy",
    "Layer by layer against end to end (Belilovsky et al. 2019)",
    "The published networks for CIFAR-10, trained block by block with k - 1 hidden layers in each classifier, and the "
    "same network end to end by the same recipe, so that each weight has as many steps; for k = 2 also end to end with "
    "as many steps in all as layer by layer, the fair comparison where time counts. At paper scale also the "
    "networks for ImageNet and VGG-11, 50 and 45 epochs a block. The ensemble weighs the classifiers by 2^j: their "
    "outputs on CIFAR-10, probabilities on ImageNet. k = 1 has a network of its own, wider and without "
    "normalization.\n\n"
    "At cpu scale: 16 channels for k = 1 and 8 else (published: 256 and 128), 3,000 training and 2,000 test images, 6 "
    "epochs a block, batches of 64, a rate of 0.05 that falls by 0.2 at 3, 6 and 9 tenths; published: 0.1, all images. "
    "Where paper and code differ, the networks follow the code (`mm.models.greedy_cifar`).",
    ("belilovsky2019greedy", "simonyan2015"),
    _cells,
    _measure,
    ("network", "k", "training"),
    (ACCURACY, Column("ensemble", "ensemble %", 1, 100), Column("parameters", "M parameters", 3, 1e-6)),
    lambda cell: _PUBLISHED.get((cell["network"], cell["k"], cell["training"]), "unknown"),
    _figures,
)
