"""NMSE against layers of unrolled algorithms whose objective is known: sparse recovery, as in learned ISTA."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.style import COLORS, draw_mean_and_range, legend_below, new_figure, plain
from ...algorithms import Algorithm, Learnable, as_algorithm
from ...data import Arrays
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...experiments.trained import train
from ...recipes import AdamW, OneCycle, Recipe, as_config
from ._recovery import (
    PROXES,
    EveryLayer,
    Problem,
    Recovery,
    Shrink,
    Towards,
    analytic_weights,
    curvatures,
    gaussian,
    of_patches,
    relative_errors,
)

_METHODS = ("ISTA", "FISTA", "heavy ball", "Nesterov", "Chebyshev", "ADMM")
_ARMS = {
    "plain": "as it is",
    "coefficients": "coefficients learned",
    "tied": "one matrix learned",
    "untied": "a matrix a layer learned",
}
# Weights of the l1 norm that are tried for the algorithms as they are, over the mean of max |A^T b|.
_FACTORS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2)


def _cells(scale: Scale) -> list[Cell]:
    recipe = Recipe(1, 64, AdamW(1e-3, weight_decay=0.0), OneCycle(0.1), clip=1.0, scalars=30.0)
    rows, columns, layers, train, test = {
        "smoke": (20, 40, 3, 256, 64),
        "cpu": (250, 500, 16, 12_800, 1000),
        "paper": (250, 500, 16, 6_400_000, 1000),
    }[scale]
    size = {"layers": layers, "train": train, "test": test, "recipe": as_config(recipe)}
    synthetic = {"rows": rows, "columns": columns, **size}
    patches = {"data": "digits" if scale == "smoke" else "cifar10", **size, "train": min(train, 100_000)}
    settings = {"noise-free": {"snr": None, **synthetic}, "20 dB": {"snr": 20, **synthetic}, "patches": patches}
    return [
        {"setting": name, "method": method, **cell}
        for name, cell in settings.items()
        for method in (_METHODS if scale != "smoke" or name == "noise-free" else ("FISTA",))
    ]


def _problem(cell: Cell, seed: int, bench: Bench) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    counts = (cell["train"], cell["test"])
    if "data" in cell:
        return of_patches(bench.data(cell["data"]), counts, generator)
    return gaussian(cell["rows"], cell["columns"], counts, cell["snr"], generator)


def algorithm_for(method: str, largest: float, least: float) -> tuple[Algorithm, float]:
    """The algorithm of a method for curvatures from `least` to `largest`, and the step size of its blocks."""
    ratio = least / largest
    momentum = (1 - math.sqrt(ratio)) / (1 + math.sqrt(ratio))
    algorithms = {
        "ISTA": "gradient_descent",
        "FISTA": "fista",
        "heavy ball": f"heavy_ball(step_size={4 / (1 + math.sqrt(ratio)) ** 2}, momentum={momentum**2})",
        "Nesterov": f"nesterov(momentum={momentum})",
        "Chebyshev": f"chebyshev(ratio={ratio})",
        "ADMM": "admm",
    }
    return as_algorithm(algorithms[method]), 1.0 if method == "ADMM" else 1 / largest


def _learnable(algorithm: Algorithm) -> Algorithm:
    """The algorithm with coefficients that are learned for each layer, from where they are."""
    bounds = {"step_size": 4.0, "momentum": 1.0}
    names = [name for name in algorithm.coefficient_names() if algorithm.oracles != PROXES]
    return algorithm.rebind(
        **{name: Learnable(getattr(algorithm, name)(0), low=0.0, high=bounds[name]) for name in names}
    )


def _weights(method: str, matrix: Tensor, arm: str) -> Tensor:
    if arm != "plain":
        return analytic_weights(matrix)
    if method == "ADMM":
        return torch.linalg.solve(matrix @ matrix.T + torch.eye(len(matrix)), matrix)  # the prox with step size 1
    return matrix


def _network(cell: Cell, problem: Problem, arm: str, factor: float, seed: int) -> Recovery:
    method, layers, matrix = cell["method"], cell["layers"], problem.matrix
    start = _weights(method, matrix, arm)
    largest, least = curvatures(start, matrix, torch.Generator().manual_seed(seed))
    algorithm, step_size = algorithm_for(method, largest, least)
    weights = [nn.Parameter(start.clone(), requires_grad=arm in ("tied", "untied")) for _ in range(layers)]
    peak = float((problem.train.inputs[:500] @ start).abs().amax(1).mean())
    pairs = []
    for k in range(layers):
        fall = 1.0 if arm == "plain" else 4 * 0.8**k
        towards = Towards(matrix, weights[k if arm == "untied" else 0], step_size)
        pairs.append((towards, Shrink(matrix.shape[1], factor * peak * step_size * fall)))
    return Recovery(problem, algorithm if arm == "plain" else _learnable(algorithm), pairs)


@torch.no_grad()
def _curve(network: Recovery, samples: Arrays) -> list[float]:
    """NMSE in dB at each layer."""
    return [10 * math.log10(error) for error in relative_errors(network(samples.inputs, True), samples.targets)]


def predicted(algorithm: Algorithm, ratio: float, layers: int) -> list[float]:
    """The worst |x_k - x*|^2 / |x_0 - x*|^2 in dB of each step, over quadratics of curvatures from `ratio` to 1.

    For methods of one gradient it is what `theory.rate` certifies of quadratics, which has no bound for ADMM's two
    proxes, and of whose digits a semidefinite program leaves none below -35 dB.
    """
    curvature = torch.linspace(ratio, 1, 2000, dtype=torch.double)
    answers: dict[str, Any] = {
        "gradient": lambda x: curvature * x,
        "prox_f": lambda v, s: v / (1 + s * curvature),
        "prox_g": lambda v, s: v,
    }
    state, rates = algorithm.start(torch.ones_like(curvature)), []
    for k in range(layers):
        state = algorithm.step(state, *[answers[name] for name in algorithm.oracles], k)
        rates.append(20 * math.log10(float(algorithm.read(state).abs().max())))
    return rates


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    problem = _problem(cell, seed, bench)
    data = problem.data()
    first = Arrays(problem.train.inputs[:500], problem.train.targets[:500])
    factor = min(_FACTORS, key=lambda f: _curve(_network(cell, problem, "plain", f, seed), first)[-1])
    curves = {"plain": _curve(_network(cell, problem, "plain", factor, seed), problem.test)}
    for arm in list(_ARMS)[1:]:
        network = _network(cell, problem, arm, factor, seed)
        train(network, data, cell, seed, bench, resume=False, method=EveryLayer())
        curves[arm] = _curve(network, problem.test)
    largest, least = curvatures(problem.matrix, problem.matrix, torch.Generator().manual_seed(seed))
    algorithm, _ = algorithm_for(cell["method"], largest, least)
    curves["predicted"] = predicted(algorithm, least / largest, cell["layers"])
    ends = {arm: curve[-1] for arm, curve in curves.items()}
    return {**ends, "factor": factor, "curves": {arm: [round(v, 3) for v in c] for arm, c in curves.items()}}


def _figures(measurements: Measurements) -> FiguresByCaption:
    settings = list(dict.fromkeys(m.cell["setting"] for m in measurements))
    figure = new_figure(2.3 * len(_ARMS), 2.4 * len(settings) + 0.4)
    panels = figure.subplots(len(settings), len(_ARMS), sharex=True, sharey="row", squeeze=False)
    for row, setting in zip(panels, settings, strict=True):
        for axes, (arm, title) in zip(row, _ARMS.items(), strict=True):
            plain(axes).set_title(f"{setting}: {title}", fontsize=8)
            for method, color in zip(_METHODS, COLORS, strict=False):
                shown = [m.values["curves"] for m in measurements if (setting, method) == _labels(m.cell)]
                layers = range(1, 1 + max((len(curves[arm]) for curves in shown), default=0))
                if shown:
                    draw_mean_and_range(axes, layers, list(zip(*[c[arm] for c in shown], strict=True)), color, method)
                if shown and arm == "plain":
                    means = [sum(v) / len(v) for v in zip(*[c["predicted"] for c in shown], strict=True)]
                    axes.plot(layers, means, ":", color=color, linewidth=1)
            axes.set_ylim(bottom=max(axes.get_ylim()[0], -60), top=3)
        row[0].set_ylabel("NMSE (dB)", fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("layers", fontsize=8)
    legend_below(figure, columns=len(_METHODS))
    return {
        "NMSE of each layer's read-out, mean and range over seeds; dotted, the algorithm's rate on quadratics of the "
        "curvatures that the matrix has on a tenth of its columns": figure
    }


def _labels(cell: Cell) -> tuple[str, str]:
    return cell["setting"], cell["method"]


STUDY = Study(
    "sparse_recovery",
    "Sparse recovery by unrolled algorithms, as they are and learned (after Gregor & LeCun 2010, Chen et al. 2018)",
    "A code of 500 entries, each nonzero with probability 0.1, is recovered from 250 numbers, b = A u, with A Gaussian "
    "and its columns of length 1; without noise and at 20 dB. `patches` are 8 x 8 pixels of CIFAR-10 images in grey, "
    "sparse in 143 cosines, recovered from 32 random projections. Here the objective is known, |A u - b|^2 / 2 + "
    "w |u|_1, and T is a step of ISTA on it, so that under the operator binding gradient descent is ISTA, FISTA is "
    "FISTA, and the others are what they make of the same step; ADMM has a prox for each term. As they are, w is the "
    "best of nine for the last layer, and the algorithms are tuned to the curvatures that A has on a tenth of its "
    "columns. Learned are, by 200 steps at cpu scale, the coefficients of each layer (step sizes, thresholds, and the "
    "momentum where it is one), with the analytic weights of ALISTA, in closed form; or, from there, also one weight "
    "matrix for all layers, or one for each. NMSE is |estimate - u|^2 / |u|^2 over 1,000 samples, at the last of 16 "
    "layers; the loss is the mean of its logarithm over all layers.\n\n"
    "Chen et al. 2018 and Liu & Chen 2019 print curves without numbers: learned ISTA with coupled weights, analytic or "
    "learned by hundreds of thousands of steps, falls linearly in dB with the layers, where ISTA and FISTA level off.",
    ("gregor2010lista", "chen2018lista", "liu2019alista", "wadayama2020chebyshev"),
    _cells,
    _measure,
    ("setting", "method"),
    (*(Column(arm, f"{title}, dB", 1) for arm, title in _ARMS.items()), Column("predicted", "predicted rate, dB", 1)),
    published=None,
    figures=_figures,
)
