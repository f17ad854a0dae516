"""How accurate CIFAR-10 gets in how much time: the recipe and the network of airbench94 (Jordan 2024)."""

import torch

from ...experiments import Bench, Cell, Column, Scale, Study, Values
from ...experiments.trained import ACCURACY, train
from ...models import create_for
from ...recipes import as_config
from ...recipes.registry import recipe

_PUBLISHED = {10: "94.01"}
_EPOCHS = {"smoke": (1, 2), "cpu": (5, 10, 16), "paper": (10, 32)}
"""On one core of a processor with AMX, 5, 10 and 16 epochs take about 9, 20 and 30 minutes, 32 an hour."""


def _cells(scale: Scale) -> list[Cell]:
    data = {"data": "digits", "train": 200, "test": 100, "enlarged": 2} if scale == "smoke" else {"data": "cifar10"}
    model, batch = ("airbench(width=4)", 50) if scale == "smoke" else ("airbench", 1024)
    return [
        {"model": model, "epochs": epochs, **data}
        | {"recipe": as_config(recipe("airbench", epochs=epochs, batch_size=batch, precision="bf16"))}
        for epochs in _EPOCHS[scale]
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    torch.manual_seed(seed)
    result = train(create_for(cell["model"], data.shape, data.num_outputs), data, cell, seed, bench)
    # With the tests after each epoch; what came before an interruption counts too.
    seconds = sum(record["seconds"] for record in result.history)
    return {
        "accuracy": result.test_accuracy,
        "minutes": seconds / 60,
        "speed": cell["epochs"] * len(data.train) / seconds,
        "threads": torch.get_num_threads(),
    }


STUDY = Study(
    "record",
    "CIFAR-10 by the fastest recipe: accuracy and minutes (Jordan 2024)",
    "The network and the recipe of airbench94, over the number of epochs; bfloat16 autocast, six views of each test "
    "image at the end. Minutes and images per second are those of the whole training, with a test after each epoch, on "
    "as many threads as the table has; the note names the processor. A seed of all three takes an hour of one core.\n\n"
    "Published is the mean of 1,000 runs of 9.9 epochs, in half precision, which take 3.83 seconds on an A100. What is "
    "known to differ is said by the recipe `airbench`. Files of CIFAR-10 that went through JPEG cost accuracy too; how "
    "much cannot be told without the lossless ones.",
    ("jordan2024airbench",),
    _cells,
    _measure,
    ("model", "epochs"),
    (ACCURACY, Column("minutes", "minutes", 1), Column("speed", "images a second", 0), Column("threads", "threads", 0)),
    lambda cell: _PUBLISHED.get(cell["epochs"], "unknown"),
)
