"""Normalization against the size of batches."""

from ...experiments import Bench, Cell, Scale, Study, Values, sweep
from ...experiments.trained import ACCURACY, images_for_steps, one_epoch, seeded_network, train
from ...recipes import as_config
from ...surgery import normalize

_KINDS = {
    "batch": (),
    "group": ("group(groups=4)",),
    "group, standardized weights": ("group(groups=4)", "standardized"),
    "layer": ("layer",),
    "instance": ("instance",),
    "switchable": ("switchable",),
}


def _cells(scale: Scale) -> list[Cell]:
    batches, samples, width, blocks = {
        "smoke": ((4, 16), 64, 4, 3),
        "cpu": ((2, 4, 8, 32, 128), 4096, 8, 3),
        "paper": ((2, 4, 8, 16, 32, 64, 128), 60_000, 16, 9),
    }[scale]
    return [
        {"normalization": kind, "batch": batch, "model": f"resnet20(width={width}, depth={blocks})"}
        | {**images_for_steps(scale, samples, 1), "recipe": as_config(one_epoch(0.1 * batch / 128, batch))}
        for kind in _KINDS
        for batch in batches
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    model = seeded_network(cell["model"], data, cell, seed)
    for kind in _KINDS[cell["normalization"]]:
        normalize(model, kind)
    return {"accuracy": train(model, data, cell, seed, bench, resume=False).test_accuracy}


STUDY = Study(
    "batch_size",
    "Normalization against the size of batches (after Wu & He 2018)",
    "A residual network of three blocks and 8, 16 and 32 channels on Fashion-MNIST: 4,096 images are seen once, in "
    "batches of 2 to 128, by SGD with Nesterov momentum 0.9 at the constant rate 0.1 batch / 128, no weight decay; "
    "accuracy on 2,000 test images. Small batches are many steps, so that a row is to be compared with the other rows "
    "of its batch, not along the batches. Normalizations are put in by `mm.normalize`; groups are four.\n\n"
    "Wu & He report ImageNet errors of ResNet-50 in batches of 32 to 2 images per worker, in which batch normalization "
    "loses about ten points and group normalization almost none (recalled, not read again): another experiment.",
    ("wu2018groupnorm", "luo2018switchable", "qiao2019standardization"),
    _cells,
    _measure,
    ("normalization", "batch"),
    (ACCURACY,),
    published=None,
    figures=sweep("Test accuracy against the size of batches", ACCURACY, "model", "batch", "normalization"),
)
