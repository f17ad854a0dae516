"""`minimand study`: published tables beside our own numbers."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from rich.console import Console
from tyro.conf import Positional, arg, subcommand

from ..options import Device, Engine, Jobs, Quiet, Text, Whole, resumable
from ..shared import queue_options
from ._registry import command
from .list import List

_Scale = Literal["smoke", "cpu", "paper"]


@dataclass(frozen=True)
class _List:
    """List the studies, as `minimand list studies` does."""

    def __call__(self, console: Console) -> None:
        List("studies")(console)


@dataclass(frozen=True)
class _Run:
    """Measure a study and print its table. The same command on the same folder goes on where it was."""

    name: Positional[str]
    """The name of a study, as `minimand study list` has it."""
    scale: _Scale = "cpu"
    """smoke takes seconds, cpu at most half an hour on two cores (hours where the study has a plan), paper is the
    published size."""
    seeds: Whole = None
    """The number of seeds; by default the study's own: mostly 3, and 5 to 10 where it has a plan."""
    data_folder: Text = None
    """The folder where the files of named data are, such as cifar10's; at paper scale, ImageNet's."""
    run: Text = None
    """The folder of results; by default runs/studies/NAME-SCALE."""
    device: Device = None
    jobs: Jobs = None
    engine: Engine = None
    quiet: Quiet = False

    def __call__(self, console: Console) -> None:
        from ...experiments.running import default_folder, run_study

        with resumable():
            result = run_study(
                self.name,
                self.scale,
                self.seeds,
                self.run,
                self.data_folder,
                self.device,
                tell=lambda line: None if self.quiet else console.print(line, soft_wrap=True),
                **queue_options(self, console, self.quiet or not console.is_terminal),
            )
        console.print(str(result), soft_wrap=True)
        console.print(f"report: {self.run or default_folder(self.name, self.scale)}/report.html", soft_wrap=True)


@dataclass(frozen=True)
class _Table:
    """Print what was measured of a study so far."""

    name: Positional[str]
    """The name of a study, as `minimand study list` has it."""
    scale: _Scale = "cpu"
    """The size at which it was measured."""
    run: Text = None
    """The folder of results; by default runs/studies/NAME-SCALE."""

    def __call__(self, console: Console) -> None:
        from ...experiments.running import read_study

        console.print(str(read_study(self.name, self.scale, self.run)), soft_wrap=True)


@command("study")
class Study:
    """List, run and print studies: published tables beside our own numbers."""

    takes: ClassVar[tuple[str, ...]] = ("studies",)
    do: Annotated[
        Annotated[_List, subcommand("list")]
        | Annotated[_Run, subcommand("run")]
        | Annotated[_Table, subcommand("table")],
        arg(name=""),
    ]

    def __call__(self, console: Console) -> None:
        self.do(console)
