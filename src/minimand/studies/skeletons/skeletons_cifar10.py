"""Whether momentum between layers helps on CIFAR-10, and whether that is its wiring or its scale."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from ...algorithms import as_algorithm
from ...data import Data
from ...experiments import Bench, Cell, Claim, DecisiveStudy, Scale, Trials, Values
from ...experiments.deciding.judged import train_judged
from ...experiments.trained import ACCURACY, LOSS, PARAMETERS
from ...layers.scale import Scale as Factor
from ...models import UnrolledNetwork, create_for
from ...networks.unrolled import UnrolledLayer
from ...recipes import SGD, as_config, from_config
from ...recipes.registry import recipe as named_recipe
from ...theory.dynamics.response import block_gains
from ...trainability import prepare

_DESCENT, _BALL, _Y = "gradient_descent", "heavy_ball(momentum=0.9)", "nesterov_y(momentum=0.9)"
_ARMS = {
    "gradient descent": (_DESCENT, _DESCENT),
    "heavy ball": (_BALL, _BALL),
    "Nesterov y": (_Y, _Y),
    "gradient descent with heavy ball's gains": (_DESCENT, _BALL),
    "heavy ball with gradient descent's gains": (_BALL, _DESCENT),
}
"""The algorithm that wires each arm, and the one whose gains its blocks have."""
_TWO = ("gradient descent", "heavy ball")
_RATES = (1.0, 2.0, 4.0, 8.0)
"""The learning rates that are tried, as factors on the recipe's."""
_DIGITS = {"data": "digits", "train": 100, "test": 100, "enlarged": 2}
_COLUMNS = (ACCURACY, LOSS, PARAMETERS)


def _cells(scale: Scale) -> list[Cell]:
    model, data, recipe = {
        "smoke": ("airbench(depth=6, width=4)", _DIGITS, _recipe(1, 50, biases=1.0)),
        "cpu": ("airbench(depth=9, width=32)", {"data": "cifar10"}, _recipe(3, 256)),
        "paper": ("airbench(depth=9, width=64)", {"data": "cifar10"}, _recipe(10, 1024)),
    }[scale]
    return _arms(_ARMS, {"model": model, **data, "recipe": recipe})


def _resnet_cells(scale: Scale) -> list[Cell]:
    changes: dict[str, Any] = {"optimizer": SGD(0.05), "biases": 1.0, "whiten": 0, "lookahead": 0.0}
    networks: dict[str, dict[str, Any]] = {"preact_resnet20": {"model": "preact_resnet20"}}
    if scale == "smoke":
        data, recipe = _DIGITS, _recipe(1, 50, **changes)
        networks = {"preact_resnet20": {"model": "preact_resnet20(width=4)"}}
    elif scale == "cpu":
        data, recipe = {"data": "cifar10"}, _recipe(3, 128, **changes)
    else:
        data, recipe = {"data": "cifar10"}, _recipe(200, 128, **changes)
        networks = {"preact_resnet56": {"model": "preact_resnet56"}}
        without = {"model": "preact_resnet56", "preparation": "normalizer_free"}
        networks["preact_resnet56 without normalization"] = without
    return [
        cell
        for group, network in networks.items()
        for cell in _arms(_TWO, {"group": group, **network, **data, "recipe": recipe})
    ]


def _recipe(epochs: int, batch_size: int, **changes: Any) -> dict[str, Any]:
    # Six views of each test image would cost a fifth of the training, and help all arms alike.
    recipe = named_recipe("airbench", epochs=epochs, batch_size=batch_size, precision="bf16", test_views=1)
    return as_config(replace(recipe, **changes))


def _arms(names: Iterable[str], of_all: Cell) -> list[Cell]:
    return [{**of_all, "arm": arm, "algorithm": _ARMS[arm][0], "gains": _ARMS[arm][1]} for arm in names]


def _trials(arm: Cell, scale: Scale) -> Trials:
    recipe = from_config(arm["recipe"])
    factors = _RATES[:2] if scale == "smoke" else _RATES
    while_tuning = {"epochs": 2} if scale == "cpu" else {}
    return Trials([{"rate": factor * recipe.optimizer.lr} for factor in factors], while_tuning)


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    model = network(cell, data, seed)
    if "preparation" in cell:
        recipe = from_config(cell["recipe"])
        clip = prepare(model, cell["preparation"], data.example()).recipe.adaptive_clip
        cell = {**cell, "recipe": as_config(replace(recipe, adaptive_clip=clip))}
    return train_judged(model, data, cell, seed, bench)


def network(cell: Cell, data: Data, seed: int) -> UnrolledNetwork:
    """The network of an arm: weights from the seed, wired by its algorithm, each block with the gain of another one."""
    torch.manual_seed(seed)
    model = create_for(cell["model"], data.shape, data.num_outputs, cell["algorithm"], "residual")
    for stage in model.stages:
        depth = len(stage.layers)
        ratios = block_gains(as_algorithm(cell["gains"]), depth) / block_gains(stage.algorithm, depth)
        for layer, (ratio,) in zip(stage.layers, ratios.tolist(), strict=True):
            if ratio != 1:
                layer = cast(UnrolledLayer, layer)
                layer.block = nn.Sequential(layer.block, Factor(ratio))
    return model


def _more_accurate(*pairs: tuple[str, str, str]) -> tuple[Claim, ...]:
    return tuple(Claim(f"{a} is more accurate than {b}", a, b, "higher", source) for a, b, source in pairs)


_ABOUT = (
    "The network of airbench with three blocks in each of its three stages, BN-GELU-convolution, added to the skip "
    "path: gradient descent makes it a ResNet. At cpu scale it is 32, 128 and 128 channels wide and sees all training "
    "images in 3 epochs by the recipe `airbench` (batches of 256, bfloat16, one view of each test image); the rate "
    "is the best of four, a factor of two apart, for each arm: after 2 epochs of four fifths of the training images, "
    "judged on the rest.\n\n"
    "Heavy ball and Nesterov's method have momentum 0.9, the usual value, at which three steps differ most from a "
    "ResNet's: by heavy ball their answers reach a stage's output 2.71, 1.9 and 1 times, by Nesterov's "
    "method too, by gradient descent once each. So two more arms tell wiring from scale: gradient descent whose "
    "branches are multiplied by heavy ball's gains, and heavy ball whose branches are divided by them. All arms have "
    "the same blocks and, by seed, the same first weights and order of images.\n\n"
    "Li et al. report an error that is lower by 0.1 to 0.6 points in three of four settings for heavy ball without "
    "normalization of the momentum; Wu et al. report gains for Nesterov's form on ImageNet. Differences below half a "
    "point count as none."
)
STUDY = DecisiveStudy(
    "skeletons_cifar10",
    "Momentum between the layers of a network for CIFAR-10: wiring or scale, decided",
    _ABOUT,
    ("li2018optimization", "wu2024optdnn", "jordan2024airbench"),
    _cells,
    _measure,
    ("arm",),
    _COLUMNS,
    claims=_more_accurate(
        ("heavy ball", "gradient descent", "li2018optimization"),
        ("Nesterov y", "gradient descent", "wu2024optdnn"),
        ("heavy ball", "gradient descent with heavy ball's gains", ""),
        ("heavy ball with gradient descent's gains", "gradient descent", ""),
        ("gradient descent with heavy ball's gains", "gradient descent", ""),
    ),
    trials=_trials,
    margin=0.5,
)
RESNET = DecisiveStudy(
    "skeletons_resnet",
    "Momentum between the blocks of a ResNet for CIFAR-10, decided",
    "As `skeletons_cifar10`, for the pre-activation ResNet of 20 layers with the shifts, flips and label smoothing of "
    "that recipe, SGD in batches of 128 at the best of four rates, 3 epochs, five seeds. At paper scale 56 layers, 200 "
    "epochs, and also without normalization, by SkipInit and adaptive clipping.",
    ("li2018optimization", "he2016identity", "jordan2024airbench"),
    _resnet_cells,
    _measure,
    ("group", "arm"),
    _COLUMNS,
    claims=_more_accurate(("heavy ball", "gradient descent", "li2018optimization")),
    trials=_trials,
    margin=0.5,
    seeds=5,
)
