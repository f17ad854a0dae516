"""The command line: one frozen dataclass a command, whose fields are its options."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg, subcommand

from .tables import make_table
from .theory.kernel import Binding

_DEFAULTS = {"algorithm": "heavy_ball", "seed": 0}

# Options that may be left out: what that means is in their text, not in a default.
_Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]
_Whole = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
_Decimal = Annotated[float | None, arg(metavar="X", help_behavior_hint="")]
_Binding = Annotated[Binding | None, arg(metavar="{residual,operator}", help_behavior_hint="")]
_Precision = Annotated[Literal["fp32", "bf16"] | None, arg(metavar="{fp32,bf16}", help_behavior_hint="")]


@dataclass(frozen=True)
class _Training:
    data: _Text = None
    """A named data set, a folder of Parquet files or of images by class, or owner/name on the hub. By default
    Fashion-MNIST if it is on the machine, else the digits."""
    folder: _Text = None
    """Where the files of a named data set are, such as cifar10's."""
    model: _Text = None
    """A named model; settings may follow, as in "mlp(width=32)". By default resnet20, or mlp for
    vectors."""
    binding: _Binding = None
    """How a block becomes a gradient; by default what the model is known for."""
    epochs: _Whole = None
    """By default few for large data and more for small."""
    batch_size: _Whole = None
    """Samples in an update; 128 by default."""
    lr: _Decimal = None
    """The highest learning rate."""
    precision: _Precision = None
    """By default bf16 (autocast) where the hardware has it."""
    compile: bool = False
    """Run the model through torch.compile."""
    quiet: bool = False
    """Print only the result."""


@dataclass(frozen=True)
class Train(_Training):
    """Train a network, evaluate it and write a report. An existing run is resumed."""

    algorithm: _Text = None
    """A name, with coefficients if need be, as in "heavy_ball(momentum=0.9)"; or path/to/file.py:MyMethod. By
    default heavy_ball."""
    run: _Text = None
    """The run's folder; by default a new one in runs/."""
    seed: _Whole = None
    """Decides the first weights, the order of the samples and every random choice; 0 by default."""
    device: _Text = None
    """Such as cuda; by default a GPU where there is one, else the CPU."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""

    def __call__(self, console: Console) -> None:
        import torch

        from .algorithms import as_algorithm
        from .models import create_for, default_model
        from .report import fit
        from .training import Run, default_recipe
        from .training.recipe import from_config

        folder = Path(self.run) if self.run else _new_folder(self)
        options = _options(self, Run(folder).command())
        run = Run(folder, options)
        algorithm = as_algorithm(options["algorithm"])
        data = _load(options, console, self.quiet)
        torch.manual_seed(options["seed"])
        name = options["model"] or default_model(data.shape)
        model = create_for(name, data.shape, data.num_outputs, algorithm, options["binding"])
        result = fit(
            model,
            data,
            recipe=_recipe(options, default_recipe(data) if run.is_new else from_config(run.config()["recipe"])),
            run=run,
            seed=options["seed"],
            device=self.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            callbacks=[] if self.quiet else [_progress(console)],
            checkpoint_every=self.checkpoint_every,
        )
        console.print(make_table(["", ""], _result_rows(result, str(algorithm), name)))
        console.print(f"report: {run.report}", highlight=False)


@dataclass(frozen=True)
class Compare(_Training):
    """Train the same model with several algorithms: same data, same first weights, several seeds."""

    algorithm: tuple[str, ...] = ("gradient_descent", "heavy_ball", "nesterov_y")
    """The algorithms, as for train."""
    seeds: int = 3
    """How many; they are 0, 1, ..."""
    run: str = "runs/comparison"
    """The folder; the same command on the same folder goes on where it was."""

    def __call__(self, console: Console) -> None:
        from .models import default_model
        from .studies import compare
        from .training import default_recipe

        options = _options(self, {})
        data = _load(options, console, self.quiet)
        comparison = compare(
            self.algorithm,
            data,
            options["model"] or default_model(data.shape),
            self.seeds,
            _recipe(options, default_recipe(data)),
            self.binding,
            self.run,
            callbacks=lambda label: [] if self.quiet else [_progress(console, label)],
        )
        console.print(make_table(comparison.columns(), comparison.rows()))
        console.print(comparison.note, highlight=False)
        console.print(f"report: {self.run}/report.html", highlight=False)


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the last checkpoint of a run on its test samples."""

    run: Positional[str]
    """The run's folder."""
    algorithm: _Text = None
    """Needed if the run's algorithm is your own: path/to/file.py:MyMethod."""

    def __call__(self, console: Console) -> None:
        from .runs import reopen
        from .training import evaluate
        from .training.losses import as_loss

        opened = reopen(self.run, self.algorithm)
        step = opened.load_trained()
        data = opened.data
        found = evaluate(opened.model, data, data.test, as_loss(opened.loss, data), opened.recipe.bf16)
        rows = [
            ["samples", f"{len(data.test):,} of {data.name}"],
            ["step", f"{step:,}"],
            ["loss", f"{found.loss:.4f}"],
        ]
        if found.accuracy is not None and found.confusion is not None:
            rows.append(["accuracy", f"{100 * found.accuracy:.2f} %"])
            for i, name in enumerate(data.classes):
                rows.append([f"  {name}", f"{100 * found.confusion[i][i] / max(sum(found.confusion[i]), 1):.2f} %"])
        console.print(make_table(["", ""], rows))


@dataclass(frozen=True)
class Certify:
    """Certify algorithms: consistency, stability, order, gains, inverse, universality."""

    algorithm: Positional[tuple[str, ...]]
    """Names, with coefficients if need be, or path/to/file.py:MyMethod."""
    depth: int = 20
    """Layers."""
    binding: Binding = "residual"
    """How a block becomes a gradient."""
    width: _Whole = None
    """Of the state."""
    d_in: _Whole = None
    """The length of the input."""
    d_out: _Whole = None
    """The length of the output."""
    plot: _Text = None
    """Write the poles, gains and wiring of each algorithm to this folder."""

    def __call__(self, console: Console) -> None:
        from .algorithms import builtin, specification
        from .names import unknown_name
        from .theory import certify

        if not self.algorithm:
            raise unknown_name("algorithm", "", builtin)
        for i, name in enumerate(self.algorithm):
            found = certify(name, self.depth, self.binding, self.width, self.d_in, self.d_out)
            if i:
                console.print()
            console.print(make_table(["", "", ""], found.rows(), found.title))
            if self.plot:
                folder = Path(self.plot)
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{specification(_resolved(name)).partition('(')[0]}.svg"
                found.plot().savefig(path)
                console.print(f"figure: {path}", highlight=False)


@dataclass(frozen=True)
class List:
    """List what there is."""

    what: Positional[Literal["algorithms", "models", "data"]]

    def __call__(self, console: Console) -> None:
        from .algorithms import builtin
        from .data import list_data
        from .models import list_models, model_info

        if self.what == "algorithms":
            rows = [[name, _first_line(cls.__doc__)] for name, cls in builtin.items()]
        elif self.what == "models":
            rows = [[name, model_info(name).description] for name in list_models()]
        else:
            rows = [[name, line] for name, line in list_data().items()]
        console.print(make_table(["name", "description"], rows))


@dataclass(frozen=True)
class Cite:
    """Print the BibTeX of algorithms, models and data sets, or of what a run used."""

    things: Positional[tuple[str, ...]]
    """Names, or folders of runs."""

    def __call__(self, console: Console) -> None:
        from .citing import bibliography
        from .training import Run

        names: list[str] = []
        for thing in self.things:
            if Path(thing).is_dir():
                command = Run.existing(thing).command()
                names += [command[key] for key in ("model", "algorithm", "data") if command.get(key)]
            else:
                names.append(thing)
        if not names:
            raise ValueError("nothing to cite; expected names of algorithms, models and data sets, or runs.")
        print(bibliography(*names))


_Command = (
    Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Certify, subcommand("certify")]
    | Annotated[Compare, subcommand("compare")]
    | Annotated[List, subcommand("list")]
    | Annotated[Cite, subcommand("cite")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a mistake in what it was given ends it with a message and the exit status 2."""
    command: Any = tyro.cli(
        FlagCreatePairsOff[_Command],
        prog="minimand",
        description="Deep networks whose architecture and training are derived from optimization problems.",
        args=arguments,
    )
    try:
        command(Console())
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not (_is_ours(error) or isinstance(error, OSError)):
            raise
        print(f"minimand: {error}", file=sys.stderr)
        sys.exit(2)


def _is_ours(error: Exception) -> bool:
    """Whether our code raised the error on purpose; another library's is unexpected and shows its traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(Path(__file__).parent)


def _options(given: _Training, before: dict[str, Any]) -> dict[str, Any]:
    """The options of a training: given now, else given when its run began, else the defaults."""
    from .data import default_data

    kept = {f.name for f in fields(Train)} - {"run", "quiet", "device", "checkpoint_every"}
    now = {n: v for n, v in vars(given).items() if n in kept and v is not None and v is not False}
    if ".py:" in str(before.get("algorithm")) and "algorithm" not in now:
        raise ValueError(
            f"the run's algorithm is your own, and a folder never decides what code runs; add --algorithm "
            f"{before['algorithm']!r}."
        )
    options = {**dict.fromkeys(sorted(kept)), **_DEFAULTS, "compile": False, **before, **now}
    return options if options["data"] else {**options, "data": default_data()}


def _load(options: dict[str, Any], console: Console, quiet: bool) -> Any:
    from .data import load_data

    folder = {"folder": options["folder"]} if options["folder"] else {}
    data = load_data(options["data"], **folder)
    if not quiet:
        console.print(f"data: {data}", highlight=False)
    return data


def _recipe(options: dict[str, Any], recipe: Any) -> Any:
    """A recipe with what the options change in it."""
    changes = {name: options[name] for name in ("epochs", "batch_size") if options[name] is not None}
    if options["precision"]:
        changes["bf16"] = options["precision"] == "bf16"
    if options["compile"]:
        changes["compile"] = True
    if options["lr"] is not None:
        changes["optimizer"] = replace(recipe.optimizer, lr=options["lr"])
    return replace(recipe, **changes)


def _new_folder(given: Train) -> Path:
    """runs/1, runs/2 ...: the first that is free."""
    number = 1
    while Path(f"runs/{number}").exists():
        number += 1
    return Path(f"runs/{number}")


def _progress(console: Console, label: str = "") -> Any:
    from .training import ShowProgress

    return ShowProgress(console, label)


def _result_rows(result: Any, algorithm: str, model: str) -> list[list[str]]:
    rows = [["algorithm", algorithm], ["model", model], ["test loss", f"{result.test_loss:.4f}"]]
    if result.test_accuracy is not None:
        rows.append(["test accuracy", f"{100 * result.test_accuracy:.2f} %"])
    seconds = sum(record["seconds"] for record in result.history)
    return [*rows, ["epochs", str(len(result.history))], ["training", f"{seconds:.0f} s"]]


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def _resolved(name: str) -> Any:
    from .algorithms import as_algorithm

    return as_algorithm(name)
