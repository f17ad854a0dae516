"""A network made narrower while it is trained layer by layer, against the narrow one (Belilovsky et al. 2019)."""

from typing import Any

import torch

from ...analysis import compress
from ...experiments import Bench, Cell, Column, Scale, Study, Values, rows
from ...experiments.trained import PARAMETERS, images, train
from ...networks import count_parameters
from ...recipes import as_config, from_config
from ...training import Layerwise
from .separability import greedy_network, greedy_recipe

_LAYERS, _K = 3, 3
_PUBLISHED = {"layer by layer, compressed": "87.6 %", "narrow, end to end": "87.5 %"}
_ACCURACY = Column("accuracy", "test accuracy %", 2, 100)


def _cells(scale: Scale) -> list[Cell]:
    width, pool = {"smoke": (4, 1), "cpu": (16, 2), "paper": (128, 1)}[scale]
    layer, whole = greedy_recipe(scale, 50, 0.3), greedy_recipe(scale, 120, 25 / 120)
    settings = {"width": width, "pool": pool, **images(scale, 2000)}
    return [
        {"training": training, **settings, "tuning": max(round(0.4 * layer.epochs), 1), "recipe": as_config(recipe)}
        for training, recipe in (
            ("layer by layer", layer),
            ("layer by layer, compressed", layer),
            ("narrow, layer by layer", layer),
            ("narrow, end to end", whole),
        )
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    recipe, width, training = from_config(cell["recipe"]), cell["width"], cell["training"]
    torch.manual_seed(seed)
    narrow = width // 2
    inner = narrow if training.startswith("narrow") else width
    model = greedy_network(data, [inner] * _LAYERS, _K, narrow, norm=True, pool=cell["pool"])
    method = Layerwise(_K, "cnn", inner)
    if training == "layer by layer, compressed":
        result = compress(model.to(bench.device), data, narrow / width, method, recipe, cell["tuning"], seed=seed)
        accuracy = result.test_accuracy
        lost: list[Any] = [x.trained - x.tuned for x in result.layers]
    else:
        accuracy = train(model, data, cell, seed, bench, method=None if "end" in training else method).test_accuracy
        lost = ["-"] * _LAYERS
    values = {f"lost_{i + 1}": value for i, value in enumerate(lost)}
    return {"accuracy": accuracy, **values, "parameters": count_parameters(model)}


STUDY = Study(
    "compression",
    "Layers that lose half of their filters before the next is trained",
    "Three convolutions, each trained below two more (k = 3). `mm.compress` then removes half of its filters, those "
    "that matter least to the loss to first order (Molchanov et al. 2017), trains the auxiliary classifier alone for a "
    "while, and goes on with the next layer. It ends with the network that the last two rows begin with. At paper "
    "scale 128 filters become 64, a layer is trained for 50 epochs, its classifier for 20 afterwards, and the narrow "
    "network end to end for 120. At cpu scale 16 become 8, on the first 2,000 images of CIFAR-10 at 16 x 16 pixels, "
    "for 6, 2 and 14 epochs. In between stands what a layer lost, in percentage points, after its classifier was "
    "trained again.\n\n"
    "The paper says neither which layers downsample (here none does) nor how often filters were removed (here once).",
    ("belilovsky2019greedy", "molchanov2017pruning"),
    _cells,
    _measure,
    ("training",),
    (_ACCURACY, *(Column(f"lost_{i}", f"lost at layer {i}", 2, 100) for i in range(1, _LAYERS + 1)), PARAMETERS),
    lambda cell: _PUBLISHED.get(cell["training"], "unknown"),
    rows("Test accuracy", ("training",), _ACCURACY),
)
