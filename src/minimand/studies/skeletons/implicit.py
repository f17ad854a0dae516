"""The implicit OptDNNs beside explicit residual networks on CIFAR-10 (Wu et al. 2024, table 7)."""

from typing import Any

from ...blocks import Implicit
from ...experiments import Bench, Cell, Claim, Column, DecisiveStudy, Scale, Trials, Values
from ...experiments.deciding.judged import train_judged
from ...experiments.trained import ACCURACY, LOSS, PARAMETERS, images, seeded_network
from ...recipes import SGD, Augmentation, Cosine, Recipe, as_config

_RESNET, _WIDER = "ResNet", "ResNet as large"
_ARMS = {
    _RESNET: ("preact_resnet20", "gradient_descent", {4: 4, 8: 8, 16: 16}),
    _WIDER: ("preact_resnet20", "gradient_descent", {4: 5, 8: 9, 16: 19}),
    "heavy ball as large": ("preact_resnet20", "heavy_ball(momentum=0.5)", {4: 5, 8: 9, 16: 19}),
    "implicit PGD": ("implicit_pgd20", "proximal_gradient", {4: 4, 8: 8, 16: 16}),
    "implicit FISTA": ("implicit_fista20", "proximal_fista(cap=0.9)", {4: 4, 8: 8, 16: 16}),
    "implicit DR": ("implicit_dr20", "douglas_rachford", {4: 4, 8: 8, 16: 16}),
}
"""The model and the algorithm of each arm, and its channels by those of the implicit networks."""
_RATES = (0.025, 0.05, 0.1)


def _cells(scale: Scale) -> list[Cell]:
    channels, epochs = {"smoke": (4, 1), "cpu": (8, 4), "paper": (16, 200)}[scale]
    strong = Augmentation(pad=4, flip=True) if scale != "smoke" else Augmentation()
    recipe = Recipe(epochs, 50 if scale == "smoke" else 64, SGD(_RATES[1]), Cosine(), augmentation=strong)
    shown: dict[str, Any] = images(scale, 1_000, 1_000)
    return [
        {"arm": arm, "algorithm": algorithm, "model": f"{model}(width={widths[channels]})", **shown}
        | {"recipe": as_config(recipe)}
        for arm, (model, algorithm, widths) in _ARMS.items()
        if scale != "smoke" or arm in (_RESNET, "implicit PGD")
    ]


def _trials(cell: Cell, scale: Scale) -> Trials:
    return Trials([{"rate": rate} for rate in _RATES[: 2 if scale == "smoke" else None]])


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    data = bench.data_of(cell)
    model = seeded_network(cell["model"], data, cell, seed)
    values = train_judged(model, data, cell, seed, bench)
    tallies = [module.equilibrium.tally for module in model.modules() if isinstance(module, Implicit)]
    samples = sum(tally.samples for tally in tallies)
    values["calls"] = sum(tally.steps for tally in tallies) / samples if samples else 0.0
    values["unsolved"] = 1 - sum(tally.converged for tally in tallies) / samples if samples else 0.0
    return values


STUDY = DecisiveStudy(
    "implicit",
    "Implicit networks beside residual ones (Wu et al. 2024)",
    "The three implicit OptDNNs, which read the state that a layer leads to, beside a pre-activation ResNet of 20 "
    "layers: one of as many channels, and one of about as many parameters, which heavy ball wires too. The explicit "
    "blocks are those of the ResNet; an implicit one is minus the gradient of a learned convex function, and in "
    "Douglas and Rachford's network the other one a contraction. At cpu scale the first 1,000 images of CIFAR-10 in 4 "
    "epochs with 8 channels, each arm at the best of three learning rates; at paper scale all images in 200 epochs "
    "with 16 channels. Solver steps are those of a sample in a layer, forward, over the training.\n\n"
    "Of the paper's third implicit network, its coefficients, its solver and its numbers nothing is known here: it "
    "reports accuracies comparable to the best implicit networks. Differences below one point count as none.",
    ("wu2024optdnn",),
    _cells,
    _measure,
    ("arm",),
    (ACCURACY, LOSS, PARAMETERS, Column("calls", "solver steps", 1), Column("unsolved", "not converged %", 2, 100)),
    claims=tuple(
        Claim(f"{arm} is more accurate than {_WIDER}", arm, _WIDER, "higher")
        for arm in ("implicit PGD", "implicit FISTA", "implicit DR")
    ),
    trials=_trials,
    margin=1.0,
    seeds=5,
)
