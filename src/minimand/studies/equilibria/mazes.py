"""Mazes solved by one block run to its fixed point: accuracy against iterations at test time."""

import random

import torch
from torch import Tensor, nn

from ..._support.style import COLORS, legend_below, new_figure, plain
from ...data import Arrays, Data
from ...equilibrium import Equilibrium, Solution
from ...experiments import Bench, Cell, Column, FiguresByCaption, Measurements, Scale, Study, Values
from ...experiments.trained import PARAMETERS, train
from ...models.vision.equilibrium import ConvolutionalStep
from ...networks import count_parameters
from ...recipes import AdamW, Cosine, Recipe, as_config

_ITERATIONS = (1, 2, 4, 8, 16, 32, 64, 128)
_GRADIENTS = ("implicit", "phantom", "jacobian_free")
_STEPS = 30  # of the solver in training
_SHOWN = 100  # mazes of a figure


def _cells(scale: Scale) -> list[Cell]:
    sizes = {"smoke": (3, 64, 2, 8), "cpu": (4, 3000, 12, 32), "paper": (9, 50_000, 60, 64)}
    side, samples, epochs, width = sizes[scale]
    recipe = Recipe(epochs, 32 if scale == "smoke" else 64, AdamW(2e-3, weight_decay=0.01), Cosine(0.1), clip=1.0)
    common = {"side": side, "larger": side + 2, "samples": samples, "width": width, "recipe": as_config(recipe)}
    return [{"gradient": gradient, **common} for gradient in (_GRADIENTS[:2] if scale == "smoke" else _GRADIENTS)]


def mazes(side: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mazes of side x side cells without loops: images (N, 3, 2 side + 1, ...) of walls, start and goal, and paths.

    The targets (N, 2 side + 1, ...) are 1 on the path from the start to the goal, which is the only one, else 0.
    """
    generator = random.Random(seed)
    images = torch.zeros(samples, 3, 2 * side + 1, 2 * side + 1)
    paths = torch.zeros(samples, 2 * side + 1, 2 * side + 1, dtype=torch.long)
    images[:, 0] = 1
    for image, path in zip(images, paths, strict=True):
        start, goal = (_place(divmod(cell, side)) for cell in generator.sample(range(side * side), 2))
        came_from = _carve(image[0], start, side, generator)
        image[1][start] = image[2][goal] = 1
        place = goal
        while place != start:
            before = came_from[place]
            path[place] = path[(place[0] + before[0]) // 2, (place[1] + before[1]) // 2] = 1
            place = before
        path[start] = 1
    return images, paths


def _place(cell: tuple[int, int]) -> tuple[int, int]:
    return 2 * cell[0] + 1, 2 * cell[1] + 1


def _carve(
    walls: Tensor, start: tuple[int, int], side: int, generator: random.Random
) -> dict[tuple[int, int], tuple[int, int]]:
    """Open the walls along a random depth-first search, and say from where each cell was reached."""
    came_from: dict[tuple[int, int], tuple[int, int]] = {start: start}
    open_ends = [start]
    walls[start] = 0
    while open_ends:
        i, j = open_ends[-1]
        around = [(i + 2, j), (i - 2, j), (i, j + 2), (i, j - 2)]
        inside = [p for p in around if min(p) > 0 and max(p) < 2 * side + 1 and p not in came_from]
        if not inside:
            open_ends.pop()
            continue
        place = generator.choice(inside)
        came_from[place] = (i, j)
        walls[place] = walls[(i + place[0]) // 2, (j + place[1]) // 2] = 0
        open_ends.append(place)
    return came_from


class Reasoner(nn.Module):
    """One block run to its fixed point, and a classifier of each place of the maze."""

    def __init__(self, width: int, gradient: str) -> None:
        super().__init__()
        solver = f"anderson(tolerance=1e-3, max_steps={_STEPS})"
        self.width = width
        self.equilibrium = Equilibrium.from_function(ConvolutionalStep(width, 3), solver, gradient)
        self.classify = nn.Conv2d(width, 2, 1)

    def forward(self, maze: Tensor) -> Tensor:
        """Logits (N, 2, H, W) of not being and of being on the path."""
        return self.classify(self.equilibrium(maze, start=self.start(maze)))

    def start(self, maze: Tensor) -> Tensor:
        """The state that a solve starts from: zeros."""
        return maze.new_zeros(len(maze), self.width, *maze.shape[2:])


@torch.no_grad()
def judged(model: Reasoner, images: Tensor, paths: Tensor, iterations: int) -> tuple[Tensor, Solution]:
    """Whether each maze is solved, all of its places right, by so many iterations of Anderson's; and that solution."""
    equilibrium = Equilibrium.from_function(
        model.equilibrium.block, f"anderson(tolerance=1e-4, max_steps={iterations})"
    )
    solution = equilibrium.eval().solve(images, start=model.start(images))
    right = (model.eval().classify(solution.value).argmax(1) == paths).flatten(1).all(1)
    return right, solution


def _measure(cell: Cell, seed: int, bench: Bench) -> Values:
    side, samples = cell["side"], cell["samples"]
    train_set, test_set = mazes(side, samples, 2 * seed), mazes(side, max(samples // 10, 20), 2 * seed + 1)
    data = Data("mazes", Arrays(*train_set), Arrays(*test_set), train_set[0].shape[1:], classes=("off", "on"))
    torch.manual_seed(seed)
    model = Reasoner(cell["width"], cell["gradient"])
    result = train(model, data, cell, seed, bench)
    values: Values = {"parameters": count_parameters(model)}
    larger = mazes(cell["larger"], max(samples // 30, 20), 2 * seed + 1)
    for name, (images, paths) in (("same", test_set), ("larger", larger)):
        judgements = [judged(model, images.to(bench.device), paths.to(bench.device), n) for n in _ITERATIONS]
        values[f"{name}_by_iterations"] = [float(right.float().mean()) for right, _ in judgements]
        right, solution = judgements[-1]
        values[name] = float(right.float().mean())
        values[f"{name}_converged"] = float(solution.converged.float().mean())
        values[f"{name}_steps"] = float(solution.steps.float().mean())
        values[f"{name}_each"] = [
            [int(length), int(steps), float(f"{residual:.2g}"), int(solved)]
            for length, steps, residual, solved in zip(
                paths.flatten(1).sum(1)[:_SHOWN].tolist(),
                solution.steps.tolist(),
                solution.residual.tolist(),
                right.tolist(),
                strict=False,
            )
        ]
    return values | {"solves": result.history[-1]["solves_converged"]}


def _figures(measurements: Measurements) -> FiguresByCaption:
    accuracy, convergence = new_figure(8, 3.4), new_figure(8, 3.4)
    parts = ("same", "larger")
    for axes, part in zip(accuracy.subplots(1, 2, sharey=True), parts, strict=True):
        plain(axes)
        axes.set(xscale="log", xlabel="iterations at test time", title=_title(measurements, part), ylim=(-0.05, 1.05))
        for gradient, color in zip(dict.fromkeys(m.cell["gradient"] for m in measurements), COLORS, strict=False):
            curves = [m.values[f"{part}_by_iterations"] for m in measurements if m.cell["gradient"] == gradient]
            axes.plot(_ITERATIONS, torch.tensor(curves).mean(0), color=color, marker="o", markersize=3, label=gradient)
    accuracy.axes[0].set_ylabel("share of mazes solved wholly")
    legend_below(accuracy, columns=4)
    first = measurements[0]
    for axes, part in zip(convergence.subplots(1, 2), parts, strict=True):
        plain(axes)
        each = torch.tensor(first.values[f"{part}_each"])
        for solved, color, label in ((1, COLORS[0], "solved"), (0, COLORS[1], "not solved")):
            chosen = each[each[:, 3] == solved]
            axes.scatter(chosen[:, 0], chosen[:, 1], s=6, color=color, label=label)
        axes.set(xlabel="places on the path", ylabel="iterations to 1e-4", title=_title(measurements, part))
    legend_below(convergence, columns=2)
    return {
        "Share of test mazes solved wholly against iterations at test time, by the gradient of training": accuracy,
        f"Iterations of each test maze, training with the {first.cell['gradient']} gradient, seed 0": convergence,
    }


def _title(measurements: Measurements, part: str) -> str:
    side = measurements[0].cell["side" if part == "same" else "larger"]
    return f"{side} x {side} cells" + (", as trained" if part == "same" else ", never seen")


STUDY = Study(
    "mazes",
    "Mazes: one block run to its fixed point",
    "Mazes without loops, drawn by a random depth-first search; each place of the image is to be told whether it is on "
    "the path from start to goal. The network is one block, run to its fixed point by Anderson's method, and a linear "
    "classifier of each place: at most 50,000 parameters. It is trained with three gradients of `mm.Equilibrium` and "
    f"tested with more iterations than the {_STEPS} of training, on mazes of that size and on larger ones. A maze is "
    "solved if every place is right. The reversible gradient is left out: 12 coupled steps of this block come back "
    "with an error of the size of the state, which is refused.",
    ("bai2019deq", "schwarzschild2021easy"),
    _cells,
    _measure,
    ("gradient",),
    (
        Column("same", "solved %", 1, 100),
        Column("larger", "larger ones solved %", 1, 100),
        Column("same_converged", "converged %", 1, 100),
        Column("same_steps", "iterations", 1),
        Column("larger_converged", "larger ones converged %", 1, 100),
        Column("larger_steps", "their iterations", 1),
        PARAMETERS,
    ),
    published=None,
    figures=_figures,
)
