"""Plain convolutional networks of a thousand layers, by initialization alone (Xiao et al. 2018)."""

import torch
from torch import nn

from ...data import Data
from ...experiments import Bench, Cell, Scale, Study, Values, sweep
from ...experiments.trained import ACCURACY, RATE, best_of_rates, first_batch, images_for_steps, one_epoch
from ...recipes import as_config
from ...trainability import initialize

_SCHEMES = {
    "delta-orthogonal, critical": "critical",
    "Gaussian, critical": "critical(weights='gaussian')",
    "Gaussian, variance 1 / fan-in": "lecun",
}
_RATES = (0.05, 0.2)


def _cells(scale: Scale) -> list[Cell]:
    depths, channels, steps, pool = {
        "smoke": ((4,), 4, 2, 1),
        "cpu": ((60, 250, 1000), 16, 150, 4),
        "paper": ((1000, 10_000), 128, 2000, 1),
    }[scale]
    return [
        {"scheme": scheme, "depth": depth, "channels": channels, "pool": pool, **images_for_steps(scale, steps, 32)}
        # The changes that a step makes in the layers add up in the output, so the rate falls with depth.
        | {"recipe": as_config(one_epoch(1.0, 32)), "rates": [rate / depth for rate in _RATES]}
        for scheme in _SCHEMES
        for depth in depths
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    return best_of_rates(lambda: _network(cell, seed, data), data, cell, seed, bench)[0]


def _network(cell: Cell, seed: int, data: Data) -> nn.Module:
    """`depth` convolutions of 3 x 3 and stride 1, tanh after each; the mean over the image and a linear layer."""
    torch.manual_seed(seed)
    channels = cell["channels"]
    layers: list[nn.Module] = [nn.AvgPool2d(cell["pool"])]
    for i in range(cell["depth"]):
        before = channels if i else data.shape[0]
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.Tanh()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, data.num_outputs))
    initialize(model, _SCHEMES[cell["scheme"]], batch=first_batch(data)[0])
    return model


STUDY = Study(
    "tanh_cnn",
    "Plain tanh networks of a thousand convolutions, by initialization alone (after Xiao et al. 2018)",
    "Convolutions of 3 x 3 and 16 channels, a tanh after each, no skips and no normalization, then the mean over the "
    "image and a linear layer, on Fashion-MNIST at 7 x 7 pixels: 150 steps of SGD with Nesterov momentum 0.9 and "
    "batches of 32, no weight decay, at 0.05 or 0.2 / depth, whichever is better; accuracy on 2,000 test images. "
    "Critical weights are those of `mm.initialize(model, 'critical')`: q = 1 / depth, delta-orthogonal or Gaussian. At "
    "paper scale 1,000 and 10,000 layers of 128 channels and 2,000 steps on full images.\n\n"
    "Xiao et al. report 10,000 layers trained on MNIST and CIFAR-10; their accuracies, of far longer trainings, are "
    "not known here.",
    ("xiao2018dynamical",),
    _cells,
    _measure,
    ("scheme", "depth"),
    (ACCURACY, RATE),
    figures=sweep("Test accuracy against depth", ACCURACY, "channels", line="scheme"),
)
