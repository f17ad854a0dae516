"""`minimand search`: better coefficients in the certified region."""

from typing import ClassVar

from rich.console import Console

from ..._support.tables import make_table
from ..options import Engine, Jobs, Text, TrainingOptions, resumable
from ..shared import queue_options, several_trainings
from ._registry import command


@command("search")
class Search(TrainingOptions):
    """Look for better coefficients in the certified region, and compare the best with the known algorithms."""

    takes: ClassVar[tuple[str, ...]] = ("models", "data", "recipes")
    steps: int = 2
    """The number of its last states and answers that a step reads."""
    trials: int = 50
    """The number of algorithms that are looked at in all."""
    seed: int = 1000
    """The seed of the samples held out of training, of what is suggested and of every trial's training."""
    seeds: int = 3
    """Trainings of each algorithm in the final comparison; they are seeded 0, 1, ..."""
    run: str = "runs/search"
    """The folder; the same command on the same folder goes on where it was."""
    storage: Text = None
    """The URL of a database for the trials, as Optuna takes it; by default an SQLite file in the folder."""
    jobs: Jobs = None
    engine: Engine = None

    def __call__(self, console: Console) -> None:
        from ...experiments.searching.search import search

        with resumable():
            result = search(
                steps=self.steps,
                trials=self.trials,
                seed=self.seed,
                seeds=self.seeds,
                run=self.run,
                storage=self.storage,
                progress=not self.quiet,
                **queue_options(self, console, self.quiet),
                tell=lambda line: None if self.quiet else console.print(line),
                **several_trainings(self, console),
            )
        console.print(make_table(result.columns(), result.rows()))
        console.print(result.note)
        console.print(f"\n{result.source}", soft_wrap=True)
        console.print(make_table(["", "", ""], result.certificate.rows(), result.certificate.title))
        console.print("\n".join(["", *result.lines, ""]))
        console.print(make_table(result.comparison.columns(), result.comparison.rows()))
        console.print(result.comparison.note)
        console.print(f"algorithm: {self.run}/found.py:Found\nreport: {self.run}/report.html")
