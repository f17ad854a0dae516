"""Parity of eight bits, over width and depth (Wu et al. 2024)."""

import torch

from ..._support.style import COLORS, one_panel
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values, draw_sweep
from ...experiments.trained import PARAMETERS, SKELETONS, seeded_network, train
from ...networks import count_parameters
from ...recipes import AdamW, Cosine, Recipe, as_config

_ALGORITHMS = (*SKELETONS, "linearized_admm")
_ACCURACY = Column("accuracy", "accuracy %", 1, 100)
_SHOWN = (2, 8)  # the hidden units and the depth of the networks whose outputs are drawn


def _cells(scale: Scale) -> list[Cell]:
    bits, epochs = (4, 5) if scale == "smoke" else (8, 400) if scale == "cpu" else (10, 1000)
    recipe = Recipe(epochs, 2**bits, AdamW(5e-3, weight_decay=0.0), Cosine(), clip=1.0)
    return [
        {"hidden": hidden, "depth": depth, "algorithm": algorithm, "bits": bits, "width": bits + 2}
        | {"recipe": as_config(recipe)}
        for hidden in ((2,) if scale == "smoke" else (1, 2, 4))
        for depth in ((8,) if scale == "smoke" else (4, 8, 16))
        for algorithm in _ALGORITHMS
    ]


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data(f"parity(bits={cell['bits']})")
    name = f"mlp(width={cell['width']}, depth={cell['depth']}, hidden={cell['hidden']})"
    model = seeded_network(name, data, cell, seed)
    result = train(model, data, cell, seed, bench, resume=False)
    values: Values = {"accuracy": result.test_accuracy, "loss": result.test_loss, "parameters": count_parameters(model)}
    if seed == 0 and (cell["hidden"], cell["depth"]) == _SHOWN:
        points = data.train.inputs.to(bench.device)  # pyright: ignore[reportAttributeAccessIssue]
        with torch.no_grad():
            logits = model.eval()(points)
        ones, gap = (points > 0).sum(1), logits[:, 1] - logits[:, 0]
        by_count = [gap[ones == n] for n in range(cell["bits"] + 1)]
        values["gaps"] = [[round(float(v), 2) for v in (g.min(), g.mean(), g.max())] for g in by_count]
    return values


def _figures(measurements: Measurements) -> FiguresByCaption:
    shown = [m for m in measurements if "gaps" in m.values]
    figure, axes = one_panel(9, 3.4)
    for i, (m, color) in enumerate(zip(shown, COLORS, strict=False)):
        low, mean, high = torch.tensor(m.values["gaps"]).T.clamp(-20, 20)
        ones = torch.arange(len(mean)) + 0.1 * (i - len(shown) / 2)
        axes.vlines(ones, low, high, color=color, linewidth=1)
        axes.plot(ones, mean, "o", color=color, markersize=4, label=m.cell["algorithm"])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="ones among the bits", ylabel="logit of odd less that of even")
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    hidden, depth = _SHOWN
    accuracies = draw_sweep(measurements, _ACCURACY, "hidden")
    return {
        "Accuracy against depth, by hidden units of a block: mean and range over seeds": accuracies,
        f"What was learned with {hidden} hidden units and {depth} layers, seed 0: least, mean and largest output over "
        "all points with so many ones (cut at 20); it should lie below 0 for even and above 0 for odd numbers": figure,
    }


STUDY = Study(
    "parity",
    "Parity over width and depth (Wu et al. 2024)",
    "All points of {-1, 1}^8, for training and test; a linear stem to 10 entries, blocks 10 - h - 10 with ReLU under "
    "the residual binding, a linear head. The number h of hidden units and the depth are swept from where no skeleton "
    "learns parity to where all do (linearized ADMM has two blocks a layer, so twice the parameters in its blocks). "
    "Full batches, 400 epochs of Adam at 5e-3 with a cosine, gradients clipped to norm 1.\n\n"
    "Wu et al. report that their networks do better than ResNet; their numbers and sizes are not known here.",
    ("wu2024optdnn",),
    _cells,
    _measure,
    ("hidden", "depth", "algorithm"),
    (_ACCURACY, Column("loss", "loss", 4), PARAMETERS),
    figures=_figures,
)
