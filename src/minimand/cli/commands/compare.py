"""`minimand compare`: the same model trained with several algorithms."""

from typing import ClassVar, Literal

from rich.console import Console

from ..._support.tables import make_table
from ..options import Engine, Jobs, TrainingOptions, resumable
from ..shared import queue_options, several_trainings
from ._registry import command


@command("compare")
class Compare(TrainingOptions):
    """Train the same model with several algorithms: same data, same first weights, several seeds."""

    takes: ClassVar[tuple[str, ...]] = ("algorithms", "models", "data", "recipes")
    algorithm: tuple[str, ...] = ("gradient_descent", "heavy_ball", "nesterov_y")
    """The algorithms to compare, each as `minimand train` takes one."""
    seeds: int = 3
    """Trainings of each algorithm; they are seeded 0, 1, ..."""
    tune: int = 0
    """Learning rates, a factor of two apart, among which each algorithm gets the best on held-out data; 0 for none.
    From 9 on, a third of them each at three momenta."""
    budget: Literal["steps", "time", "flops"] = "steps"
    """What all trainings have in common, by other numbers of epochs: steps, time (that of a step in one thread,
    measured before the start) or training FLOPs (counted)."""
    margin: float | None = None
    """The difference that counts as none, in points of accuracy, or in the loss of a regression."""
    hypothesis: str = ""
    """A sentence on what is expected, for the plan that is written before the first training."""
    run: str = "runs/comparison"
    """The folder; the same command on the same folder goes on where it was."""
    jobs: Jobs = None
    engine: Engine = None

    def __call__(self, console: Console) -> None:
        from ..._support.checks import check_number
        from ...algorithms import as_algorithm
        from ...experiments.comparing.compare import compare
        from ...experiments.comparing.comparison import ABOUT_DIFFERENCES

        check_number("--seeds", self.seeds, 1, float("inf"), whole=True)
        if self.tune:
            check_number("--tune", self.tune, 2, float("inf"), whole=True)
        if self.margin is not None:
            check_number("--margin", self.margin, 0, float("inf"), below=True)
        for algorithm in self.algorithm:
            as_algorithm(algorithm)
        with resumable("the same command goes on from the last checkpoint"):
            comparison = compare(
                self.algorithm,
                seeds=self.seeds,
                tune=self.tune,
                budget=self.budget,
                margin=self.margin,
                hypothesis=self.hypothesis,
                run=self.run,
                progress=not self.quiet,
                **queue_options(self, console, self.quiet),
                **several_trainings(self, console),
            )
        console.print(make_table(comparison.columns(), comparison.rows()))
        console.print(comparison.note)
        if comparison.difference_rows():
            console.print()
            console.print(make_table(comparison.difference_columns(), comparison.difference_rows(), labels=2))
            console.print(ABOUT_DIFFERENCES)
        console.print(f"report: {self.run}/report.html")
