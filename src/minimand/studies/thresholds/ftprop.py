"""Hidden targets that make every unit separable, beside surrogate gradients (Friesen & Domingos 2018)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.style import COLORS, new_figure
from ...data import Arrays
from ...data.sets.nested_rings import nested_rings
from ...data.sets.parity import parity
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...layers import Sign
from ...training import FeasibleTargetPropagation, TargetPropagation

# Hidden units by task; one cannot do XOR, two not the parity of three bits.
_TASKS = {
    "XOR, 1 unit": (1,),
    "XOR": (2,),
    "parity of 3 bits, 2 units": (2,),
    "parity of 3 bits": (3,),
    "parity of 3 bits, 2 layers": (3, 3),
    "parity of 4 bits": (4,),
    "nested rings, 60 points": (8,),
    "20 random points": (8,),
}
_LEARNERS = ("feasible targets", "soft hinge", "saturated straight-through")
_DRAWN = ("XOR", "nested rings, 60 points", "20 random points")
_RATE = 0.01


def _cells(scale: Scale) -> list[Cell]:
    budget, steps = {"smoke": (100, 20), "cpu": (5000, 2000), "paper": (100_000, 20_000)}[scale]
    return [
        {"task": task, "hidden": list(hidden), "learner": learner, "budget": budget, "steps": steps}
        for task, hidden in _TASKS.items()
        for learner in _LEARNERS
    ]


def _samples(task: str, seed: int) -> tuple[Tensor, Tensor]:
    if task.startswith("nested rings"):
        drawn = cast(Arrays, nested_rings(60, seed).train)
    elif task.startswith("20 random"):
        draw = torch.Generator().manual_seed(seed)
        drawn = Arrays(torch.randn(20, 2, generator=draw), torch.randint(2, (20,), generator=draw))
    else:
        drawn = cast(Arrays, parity(2 if task.startswith("XOR") else int(task.split()[2])).train)
    return drawn.inputs, drawn.targets


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    x, y = _samples(cell["task"], seed)
    torch.manual_seed(seed)
    widths = [x.shape[1], *cell["hidden"]]
    hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), Sign())]
    first = cast(nn.Linear, hidden[0])
    model = nn.Sequential(*hidden, nn.Linear(widths[-1], 1))
    if cell["learner"] == "feasible targets":
        solution = FeasibleTargetPropagation(cell["budget"], seed=seed).solve(model, x, y)
        outcome, steps = solution.status.replace("_", " "), solution.steps
    else:
        steps = _learn(model, x, y, cell)
        outcome = "solved" if _is_solved(model, x, y) else "not solved"
    values: Values = {"solved": float(outcome == "solved"), "outcome": outcome, "steps": steps}
    if seed == 0 and cell["task"] in _DRAWN:
        values["lines"] = torch.cat([first.weight, first.bias[:, None]], 1).tolist()
        values["targets"] = model[:2](x).tolist()
    return values


def _learn(model: nn.Sequential, x: Tensor, y: Tensor, cell: Cell) -> int:
    """All samples at every step, until there is no mistake; returns the steps."""
    method = TargetPropagation("soft_hinge" if cell["learner"] == "soft hinge" else "saturated_hinge")
    optimizer = torch.optim.Adam(model.parameters(), _RATE)
    for step in range(cell["steps"]):
        if _is_solved(model, x, y):
            return step
        optimizer.zero_grad()
        method.backward(model, x, y, lambda out, y: F.binary_cross_entropy_with_logits(out[:, 0], y.float()))
        optimizer.step()
    return cell["steps"]


@torch.no_grad()
def _is_solved(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    return bool(((model(x)[:, 0] > 0) == y.bool()).all())


def _figures(measurements: Measurements) -> FiguresByCaption:
    shown = [m for m in measurements if "lines" in m.values]
    tasks = [task for task in _DRAWN if any(m.cell["task"] == task for m in shown)]
    figure = new_figure(2.6 * 2 * len(_LEARNERS), 2.5 * len(tasks))
    panels = figure.subplots(len(tasks), 2 * len(_LEARNERS), squeeze=False, width_ratios=[3, 1] * len(_LEARNERS))
    for row, task in zip(panels, tasks, strict=True):
        inputs, labels = _samples(task, 0)
        order = labels.argsort(stable=True)
        for i, learner in enumerate(_LEARNERS):
            plane, targets = row[2 * i : 2 * i + 2]
            for axes in (plane, targets):
                axes.set(xticks=[], yticks=[])
            first = next((m for m in shown if (m.cell["task"], m.cell["learner"]) == (task, learner)), None)
            if first is None:
                continue
            _draw_plane(plane, inputs, labels, first.values["lines"])
            plane.set_title(f"{task}\n{learner}: {first.values['outcome']}", fontsize=7)
            answers = torch.tensor(first.values["targets"])[order].numpy()
            targets.imshow(answers, cmap="Greys", vmin=-1, vmax=1.5, aspect="auto", interpolation="nearest")
            targets.axhline(int((labels == 0).sum()) - 0.5, color="red", linewidth=0.8)
            targets.set_title("hidden", fontsize=7)
    return {
        "Seed 0: the samples, the line of each hidden unit, and beside them what each hidden unit (a column) gives for "
        "each sample (a row; the classes are parted by the red line): where it is solved these are the targets": figure
    }


def _draw_plane(axes: Any, inputs: Tensor, labels: Tensor, lines: Sequence[Sequence[float]]) -> None:
    """Draw samples in the plane, and the line a x + b y + c = 0 of each hidden unit from border to border."""
    (left, bottom), (right, top) = (inputs.amin(0) - 0.5).tolist(), (inputs.amax(0) + 0.5).tolist()
    for (a, b, c), color in zip(lines, COLORS, strict=False):
        if abs(a) > abs(b):
            y = [bottom, top]
            x = [-(b * end + c) / a for end in y]
        else:
            x = [left, right]
            y = [-(a * end + c) / b for end in x]
        axes.plot(x, y, color=color, linewidth=1)
    across, up = inputs.T.tolist()
    axes.scatter(across, up, c=labels.tolist(), cmap="coolwarm", s=14, linewidths=0, zorder=3)
    axes.set(xlim=(left, right), ylim=(bottom, top))


STUDY = Study(
    "ftprop",
    "Feasible targets on small tasks, beside surrogate gradients (Friesen & Domingos 2018)",
    "Networks of a few signs and one output, which have to make no mistake on all samples. "
    "`mm.FeasibleTargetPropagation` searches targets of the hidden units that make every unit separable, within 5,000 "
    "steps, a step being a separability problem (a linear program) or a move of targets; where all targets can be "
    "tried, it proves that there is no solution. Beside it stand surrogate gradients, on all samples at once: up to "
    "2,000 steps of Adam at 0.01, until there is no mistake. Rings, random points and first weights follow from the "
    "seed.\n\n"
    "Algorithm 1 of the paper is recalled, not read again; the paper has no numbers for it, and no code of it was "
    "published. Steps of the two kinds are different work and cannot be compared.",
    ("friesen2018",),
    _cells,
    _measure,
    ("task", "learner"),
    (Column("solved", "solved %", 0, 100), Column("outcome", "outcome"), Column("steps", "steps", 0)),
    None,
    _figures,
)
