"""Normalization against the size of batches."""

from typing import Any

from ...experiments.bench import Bench
from ...experiments.panels import draw_sweep
from ...experiments.study import Cell, Column, Scale, Study, register
from ...experiments.trained import created, few, few_steps, kept, train
from ...surgery.normalize import normalize
from ...training.hooks.nonfinite import NonFiniteLossError

_KINDS = {
    "batch": (),
    "group": ("group(groups=4)",),
    "group, standardized weights": ("group(groups=4)", "standardized"),
    "layer": ("layer",),
    "instance": ("instance",),
    "switchable": ("switchable",),
}
_ACCURACY = Column("accuracy", "test accuracy %", 1, 100)


def _cells(scale: Scale) -> list[Cell]:
    batches, samples, width, blocks = {
        "smoke": ((4, 16), 64, 4, 3),
        "cpu": ((2, 4, 8, 32, 128), 4096, 8, 3),
        "paper": ((2, 4, 8, 16, 32, 64, 128), 60_000, 16, 9),
    }[scale]
    return [
        {"normalization": kind, "batch": batch, "model": f"resnet20(width={width}, depth={blocks})"}
        | {**few(scale, samples, 1), "recipe": kept(few_steps(0.1 * batch / 128, batch))}
        for kind in _KINDS
        for batch in batches
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> dict[str, Any]:
    data = bench.data(cell["data"], cell["train"], cell["test"])
    model = created(cell["model"], data, cell, seed)
    for kind in _KINDS[cell["normalization"]]:
        normalize(model, kind)
    try:
        return {"accuracy": train(model, data, cell, seed, bench, resume=False).test_accuracy}
    except NonFiniteLossError:
        return {"diverged": 1}


register(
    Study(
        "batch_size",
        "Normalization against the size of batches (after Wu & He 2018)",
        "A residual network of three blocks and 8, 16 and 32 channels on Fashion-MNIST: 4,096 images are seen once, in "
        "batches of 2 to 128, by SGD with Nesterov momentum 0.9 at the constant rate 0.1 batch / 128, no weight "
        "decay; accuracy on 2,000 test images. Small batches are many steps, so that a row is to be compared with "
        "the other rows of its batch, not along the batches. Normalizations are put in by `mm.normalize`; groups are "
        "four.\n\n"
        "Wu & He report ImageNet errors of ResNet-50 in batches of 32 to 2 images per worker, in which batch "
        "normalization loses about ten points and group normalization almost none (recalled, not read again): another "
        "experiment.",
        ("wu2018groupnorm", "luo2018switchable", "qiao2019standardization"),
        _cells,
        _measure,
        ("normalization", "batch"),
        (_ACCURACY,),
        published=None,
        figures=lambda measurements: {
            "Test accuracy against the size of batches: mean and range over seeds": draw_sweep(
                measurements, _ACCURACY, "model", "batch", "normalization"
            )
        },
    )
)
