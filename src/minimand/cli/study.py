"""Commands on studies."""

from dataclasses import dataclass
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg, subcommand

from .._support.tables import make_table
from .options import Text, Whole

_Scale = Literal["smoke", "cpu", "paper"]


@dataclass(frozen=True)
class _List:
    """List the studies."""

    def __call__(self, console: Console) -> None:
        from ..experiments.study import list_studies

        console.print(make_table(["name", "description"], list(map(list, list_studies().items()))))


@dataclass(frozen=True)
class _Run:
    """Measure a study and print its table. The same command on the same folder goes on where it was."""

    name: Positional[str]
    """minimand study list prints the names."""
    scale: _Scale = "cpu"
    """smoke takes seconds, cpu at most half an hour on two cores, paper is the published size."""
    seeds: Whole = None
    """How many; by default 3, and 1 at smoke scale."""
    data_folder: Text = None
    """Where the files of named data are, such as cifar10's; at paper scale, ImageNet's."""
    run: Text = None
    """The folder of results; by default runs/studies/NAME-SCALE."""
    device: Text = None
    """Such as cuda; by default a GPU where there is one, else the CPU."""
    quiet: bool = False
    """Print only the result."""

    def __call__(self, console: Console) -> None:
        from ..experiments.running import default_folder, run_study
        from ..training.hooks.progress import ShowProgress

        def tell(line: str) -> None:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

        try:
            result = run_study(
                self.name,
                self.scale,
                self.seeds,
                self.run,
                self.data_folder,
                self.device,
                callbacks=lambda label: [] if self.quiet or not console.is_terminal else [ShowProgress(console, label)],
                tell=(lambda line: None) if self.quiet else tell,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on where it was") from None
        tell(str(result))
        tell(f"report: {self.run or default_folder(self.name, self.scale)}/report.html")


@dataclass(frozen=True)
class _Table:
    """Print what was measured of a study so far."""

    name: Positional[str]
    scale: _Scale = "cpu"
    """Which of its tables."""
    run: Text = None
    """The folder of results; by default runs/studies/NAME-SCALE."""

    def __call__(self, console: Console) -> None:
        from ..experiments.running import read_study

        console.print(str(read_study(self.name, self.scale, self.run)), highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Study:
    """List, run and print studies: published tables beside our own numbers."""

    do: Annotated[
        Annotated[_List, subcommand("list")]
        | Annotated[_Run, subcommand("run")]
        | Annotated[_Table, subcommand("table")],
        arg(name=""),
    ]

    def __call__(self, console: Console) -> None:
        self.do(console)
