"""Every algorithm with the same blocks, for its card in the gallery."""

from ...algorithms import ALGORITHMS, is_map, is_proximal
from ...experiments import Cell, Scale, Study, rows
from ...experiments.trained import ERROR, LOSS, PARAMETERS, images, measure_classifier
from ...recipes import AdamW, Cosine, Recipe, as_config


def _cells(scale: Scale) -> list[Cell]:
    if scale == "paper":
        model, shown, recipe = "preact_resnet56", images(scale, 0), Recipe(200, 128, schedule=Cosine())
    else:
        model, shown = "mlp(width=32, depth=12)", {"data": "digits", "train": None if scale == "cpu" else 100}
        recipe = Recipe(20 if scale == "cpu" else 1, 128, AdamW(5e-3, weight_decay=0.0), Cosine())
    return [
        {"algorithm": _from_one_input(name), "model": model, **shown, "recipe": as_config(recipe)}
        for name, cls in ALGORITHMS.items()
        if not any(map(is_proximal, cls.oracles)) and (scale != "paper" or not any(map(is_map, cls.oracles)))
    ]


def _from_one_input(name: str) -> str:
    """The name of an algorithm, with a first velocity of 0 where it would be a second input."""
    return name if len(ALGORITHMS[name]().inputs) == 1 else f"{name}(first_velocity='zero')"


STUDY = Study(
    "gallery",
    "Every algorithm with the same blocks",
    "Each built-in algorithm with its default coefficients, but for those whose prox has to be known, and at paper "
    "scale those that normalize a velocity. At cpu scale 12 "
    "two-layer blocks of width 32 on the digits, 20 epochs of Adam at 5e-3 with a cosine; at paper scale the "
    "pre-activation ResNet of 56 layers, 200 epochs of CIFAR-10. Algorithms that ask two gradients have two blocks a "
    "layer, Runge-Kutta asks one several times. Nothing of the sort is published.",
    (),
    _cells,
    measure_classifier,
    ("algorithm",),
    (ERROR, LOSS, PARAMETERS),
    published=None,
    figures=rows("Test error", ("algorithm",), ERROR),
)
