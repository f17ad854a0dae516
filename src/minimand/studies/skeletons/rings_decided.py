"""Nested rings decided: is the margin larger than ResNet's once each skeleton has its own learning rate?"""

from ...data.sets.nested_rings import nested_rings
from ...experiments import Bench, Cell, Claim, Column, DecisiveStudy, Scale, Trials, Values, judged_part
from ...experiments.deciding.judged import train_judged
from ...experiments.trained import PARAMETERS, SKELETONS
from ...recipes import AdamW, Cosine, Recipe, as_config
from .rings import margin_on, network

_RESNET, *_OTHERS = SKELETONS
_RATES = tuple(5e-3 * 2.0**k for k in range(-3, 4))


def _cells(scale: Scale) -> list[Cell]:
    samples, epochs = (200, 2) if scale == "smoke" else (2000, 25) if scale == "cpu" else (4000, 100)
    recipe = Recipe(epochs, 125 if scale != "smoke" else 50, AdamW(5e-3, weight_decay=0.0), Cosine(), clip=1.0)
    return [
        {"group": f"{depth} layers", "arm": algorithm, "algorithm": algorithm, "depth": depth, "hidden": 16}
        | {"samples": samples, "recipe": as_config(recipe)}
        for depth in ((3,) if scale == "smoke" else (5, 15))
        for algorithm in (SKELETONS[:2] if scale == "smoke" else SKELETONS)
    ]


def _trials(cell: Cell, scale: Scale) -> Trials:
    return Trials([{"rate": rate} for rate in (_RATES[2:5:2] if scale == "smoke" else _RATES)])


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = judged_part(nested_rings(cell["samples"], seed), cell)
    stage = network(cell, seed)
    values = train_judged(stage, data, cell, seed, bench, resume=False)
    values.pop("curve", None)  # of the accuracy, which is not what is judged
    return {"margin": margin_on(stage, data)} | values


STUDY = DecisiveStudy(
    "rings_decided",
    "Nested rings, decided: the margin of each skeleton with a learning rate of its own",
    "The networks, rings and recipe of the study `rings`, at seven learning rates a factor of two apart around 0.005 "
    "for each skeleton and depth. A rate is chosen by the margin, averaged over three seeds, on a fifth of the "
    "training samples; ten other seeds judge. A margin is at most about 0.45, and 0 where a single test sample is "
    "misclassified. Margins less than 0.05 apart count as equal.\n\n"
    "Wu et al. report larger margins than ResNet's for their networks; their numbers are not known here.",
    ("wu2024optdnn", "sander2021momentum"),
    _cells,
    _measure,
    ("group", "arm"),
    (Column("margin", "margin", 3), Column("accuracy", "test accuracy %", 2, 100), PARAMETERS),
    claims=tuple(
        Claim(f"{arm} has a larger margin than {_RESNET}", arm, _RESNET, "higher", "wu2024optdnn") for arm in _OTHERS
    ),
    trials=_trials,
    unit="",
    margin=0.05,
    tuning_seeds=3,
)
