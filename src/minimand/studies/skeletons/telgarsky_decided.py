"""Telgarsky's sawtooth decided: is the error lower than ResNet's once each skeleton has its own learning rate?"""

import math

from ...experiments import Bench, Cell, Claim, Column, DecisiveStudy, Scale, Trials, Values
from ...experiments.deciding.judged import train_judged
from ...experiments.trained import SKELETONS, seeded_network
from ...recipes import AdamW, Cosine, Recipe, as_config

_RESNET, *_OTHERS = SKELETONS
_RATES = tuple(5e-3 * 2.0**k for k in range(-2, 4))
_SIZES = ((3, 4, 8), (3, 16, 8), (4, 16, 8), (4, 16, 16))  # folds, hidden units, layers


def _cells(scale: Scale) -> list[Cell]:
    points, epochs = (33, 5) if scale == "smoke" else (513, 600) if scale == "cpu" else (2049, 3000)
    recipe = Recipe(epochs, points, AdamW(5e-3, weight_decay=0.0), Cosine(), clip=1.0)
    return [
        {"group": f"{folds} folds, {hidden} hidden units, {depth} layers", "arm": algorithm, "algorithm": algorithm}
        | {"data": f"telgarsky(folds={folds}, points={points})", "recipe": as_config(recipe)}
        | {"model": f"mlp(width=8, depth={depth}, hidden={hidden})"}
        for folds, hidden, depth in (((2, 4, 4),) if scale == "smoke" else _SIZES)
        for algorithm in (SKELETONS[:2] if scale == "smoke" else SKELETONS)
    ]


def _trials(cell: Cell, scale: Scale) -> Trials:
    return Trials([{"rate": rate} for rate in (_RATES[1:4:2] if scale == "smoke" else _RATES)])


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    values = train_judged(seeded_network(cell["model"], data, cell, seed), data, cell, seed, bench, resume=False)
    if "curve" in values:
        values["curve"] = [round(math.log10(loss), 4) for loss in values["curve"][9::10]]  # of each tenth epoch
    return {"log_mse": math.log10(values["loss"])} | values


STUDY = DecisiveStudy(
    "telgarsky_decided",
    "Telgarsky's sawtooth, decided: the error of each skeleton with a learning rate of its own",
    "The functions and networks of the study `telgarsky` at four sizes, at six learning rates a factor of two apart "
    "from 0.00125 on for each skeleton and size. A rate is chosen by the error, averaged over three seeds, on a "
    "fifth of the training points; ten other seeds judge. Errors differ by orders of magnitude, so their logarithm "
    "to base 10 is compared: means less than 0.1 apart, a quarter, count as equal.\n\n"
    "Wu et al. report lower errors than ResNet's for their networks; their numbers and sizes are not known here.",
    ("wu2024optdnn", "telgarsky2016benefits"),
    _cells,
    _measure,
    ("group", "arm"),
    (Column("log_mse", "log10 of test MSE", 2), Column("loss", "test MSE", 5)),
    claims=tuple(
        Claim(f"{arm} has a lower error than {_RESNET}", arm, _RESNET, "lower", "wu2024optdnn") for arm in _OTHERS
    ),
    trials=_trials,
    better="lower",
    unit="",
    margin=0.1,
    tuning_seeds=3,
)
