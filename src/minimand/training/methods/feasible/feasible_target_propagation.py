"""Hidden targets that make the problem of every unit separable: FTPROP itself (Friesen & Domingos 2018)."""

import copy
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError, unknown_name
from ....layers.thresholds import Threshold
from ....theory.feasibility import METHODS, Separability
from .target_search import BudgetSpent, TargetSearch

Status = Literal["solved", "infeasible", "budget_spent"]


@dataclass(frozen=True)
class Solution:
    """The end of `FeasibleTargetPropagation.solve`: targets that all units meet, or a unit that cannot and why."""

    status: Status
    steps: int
    targets: tuple[np.ndarray, ...] = field(default=(), repr=False)
    """If solved, the targets of each hidden layer (N, units), 1 or -1, all of them met."""
    margins: tuple[float, ...] = ()
    """If solved, the least margin of each layer."""
    unit: tuple[int, int] | None = None
    """If infeasible, the layer, from 1, and the unit in it, from 0, that cannot meet its targets."""
    proof: Separability | None = field(default=None, repr=False)
    """If infeasible, the proof for `unit`; where all hidden targets were tried, in the setting that came nearest."""
    settings: int = 0
    """If infeasible, the number of settings of the hidden targets, all of them tried; 0 if the proof needs none."""

    def __str__(self) -> str:
        if self.status == "solved":
            margins = ", ".join(f"{margin:.3g}" for margin in self.margins)
            return f"solved after {self.steps} steps; margins of the layers {margins}"
        if self.unit is None:
            return f"not solved within {self.steps} steps"
        tried = f" in any of the {self.settings} settings of hidden targets" if self.settings else ""
        return f"infeasible: unit {self.unit[1]} of layer {self.unit[0]} cannot meet its targets{tried}; {self.proof}"


@dataclass(frozen=True)
class FeasibleTargetPropagation:
    """Solves for the targets of all hidden threshold units, on all samples at once, so that every unit can meet them.

    Targets are set from the top down, feasibility is confirmed from the bottom up: each layer's units are fitted to
    their targets; where one cannot meet them, targets of the layer below are moved so that its loss falls, and that
    layer is solved in turn. Moves are drawn, in proportion to the gradient of the loss, with restarts. Where the hidden
    targets are few enough all of them are tried, which proves that there is no solution.

    The recursion is Algorithm 1 as recalled of the paper; no code of it was published. It is exponential in the worst
    case, and meant for tens or a few hundreds of samples.

    """

    budget: int = 5000
    """Steps at most: separability problems solved, and moves of targets tried."""
    separability: str = "linear_programming"
    """The method that decides separability, as for `mm.theory.feasibility`: "linear_programming" with proofs,
    "max_margin" for the widest margins in the end, "perceptron" without proofs."""
    seed: int = 0

    references: ClassVar = ("friesen2018",)

    def __post_init__(self) -> None:
        check_number("FeasibleTargetPropagation.budget", self.budget, 1, math.inf, whole=True)
        check_number("FeasibleTargetPropagation.seed", self.seed, 0, 2**63 - 1, whole=True)
        if self.separability not in METHODS:
            raise unknown_name("separability", self.separability, METHODS)

    def solve(self, model: nn.Module, x: Tensor, y: Tensor) -> Solution:
        """Give a network the weights that make no mistake on all samples, if they are found; else leave it as it is.

        The model is an nn.Sequential of nn.Linear with bias and thresholds of two levels between them; x is (N, d), or
        whatever an nn.Flatten makes that; y are classes (N,), or 1 and -1, (N,) or (N, outputs), the outputs' signs.
        """
        flatten, layers, thresholds = _chain(model)
        x, y = torch.as_tensor(x).detach().to(layers[0].weight), torch.as_tensor(y)
        inputs = x.flatten(1) if flatten and x.ndim > 1 else x
        width = layers[0].in_features
        if inputs.ndim != 2 or inputs.shape[1] != width or not len(inputs):
            raise MinimandError(f"x has shape {tuple(x.shape)}; expected (N, {width}) for this network.")
        if not inputs.isfinite().all():
            raise MinimandError("x holds numbers that are not finite; expected finite ones.")
        targets = _output_targets(y, len(inputs), layers[-1].out_features)
        search = TargetSearch(
            inputs.double().cpu().numpy(),
            targets.cpu().numpy(),
            tuple(layer.out_features for layer in layers[:-1]),
            tuple((threshold.low, threshold.high) for threshold in thresholds),
            self.separability,
            self.budget,
            np.random.default_rng(self.seed),
        )
        try:
            if (unit := search.impossible()) is None:
                for units, hidden in search.solutions():
                    if _takes(model, layers, units, x, targets):
                        margins = tuple(min(unit.margin for unit in layer) for layer in units)
                        return Solution("solved", search.steps, tuple(hidden), margins)
                unit = cast(tuple[int, Separability], search.nearest)
        except BudgetSpent:
            return Solution("budget_spent", search.steps)
        j, proof = unit
        return Solution("infeasible", search.steps, unit=(len(layers), j), proof=proof, settings=search.settings)


def _chain(model: nn.Module) -> tuple[bool, list[nn.Linear], list[Threshold]]:
    """Whether a network begins with nn.Flatten, its linear layers, and the thresholds between them."""
    parts = list(model) if isinstance(model, nn.Sequential) else []
    flatten = bool(parts) and isinstance(parts[0], nn.Flatten)
    if flatten:
        parts = parts[1:]
    layers, thresholds = parts[::2], parts[1::2]
    fits = len(parts) % 2 == 1 and all(isinstance(part, nn.Linear) and part.bias is not None for part in layers)
    if not fits or not all(isinstance(part, Threshold) and part.levels == 2 for part in thresholds):
        names = ", ".join(type(part).__name__ for part in parts) or type(model).__name__
        raise MinimandError(
            f"model is {names}; expected an nn.Sequential of nn.Linear with bias, mm.Sign() or mm.Heaviside() between "
            "them. mm.TargetPropagation() trains any network with thresholds."
        )
    return flatten, cast(list[nn.Linear], layers), cast(list[Threshold], thresholds)


def _output_targets(y: Tensor, samples: int, outputs: int) -> Tensor:
    """Targets 1 or -1 for every output (N, outputs)."""
    classes = max(outputs, 2)
    if y.shape == (samples,) and not y.is_floating_point() and y.min() >= 0 and y.max() < classes:
        return 2.0 * nn.functional.one_hot(y.long(), classes)[:, -outputs:] - 1
    signs = y[:, None] if y.ndim == 1 else y
    if signs.shape == (samples, outputs) and (signs.abs() == 1).all():
        return signs
    raise MinimandError(
        f"y has shape {tuple(y.shape)}, {y.dtype} and values from {float(y.min()):g} to {float(y.max()):g}; expected "
        f"integers from 0 to {classes - 1} of shape ({samples},), or 1 and -1 of shape ({samples}, {outputs})."
    )


@torch.no_grad()
def _takes(
    model: nn.Module, layers: list[nn.Linear], units: list[list[Separability]], x: Tensor, targets: Tensor
) -> bool:
    """Put weights into a network, run it, and take them out again unless all outputs have the signs of targets."""
    before, training = copy.deepcopy(model.state_dict()), model.training
    for layer, layer_units in zip(layers, units, strict=True):
        layer.weight.copy_(torch.from_numpy(np.stack([unit.weight for unit in layer_units])))
        layer.bias.copy_(torch.tensor([unit.bias for unit in layer_units]))
    right = bool((model.eval()(x).sign() == targets.to(x)).all())
    model.train(training)
    if not right:
        model.load_state_dict(before)
    return right
