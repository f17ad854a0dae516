"""Commands that train."""

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from tyro.conf import arg

from .._support.tables import make_table
from .options import Decimal, Text, Whole

_Binding = Annotated[Literal["default", "residual", "operator"], arg(help_behavior_hint="")]
_Precision = Annotated[Literal["default", "fp32", "bf16"], arg(help_behavior_hint="")]
_Parallel = Annotated[Literal["default", "ddp", "fsdp"], arg(help_behavior_hint="")]

_DEFAULTS = {"seed": 0}


@dataclass(frozen=True)
class _Training:
    data: Text = None
    """A named data set, a folder of Parquet files or of images by class, or owner/name on the hub. By default
    Fashion-MNIST if it is on the machine, else the digits."""
    data_folder: Text = None
    """Where the files of a named data set are, such as cifar10's."""
    model: Text = None
    """A named model; settings may follow, as in "mlp(width=32)". By default resnet20, or mlp for
    vectors."""
    binding: _Binding = "default"
    """How a block becomes a gradient; by default what the model is known for."""
    epochs: Whole = None
    """By default few for large data and more for small."""
    batch_size: Whole = None
    """Samples in an update; 128 by default."""
    lr: Decimal = None
    """The highest learning rate."""
    precision: _Precision = "default"
    """By default bf16 (autocast) for images where the hardware has it."""
    device: Text = None
    """Such as cuda; by default a GPU where there is one, else the CPU."""
    compile: bool = False
    """Run the model through torch.compile."""
    quiet: bool = False
    """Print only the result."""


@dataclass(frozen=True)
class Train(_Training):
    """Train a network, evaluate it and write a report. An existing run is resumed."""

    algorithm: Text = None
    """A name, with coefficients if need be, as in "heavy_ball(momentum=0.9)"; or path/to/file.py:MyMethod. By
    default what the named model is known for, and heavy_ball where none is named."""
    method: Text = None
    """How layers learn: backpropagation, the default; layerwise, one after another; or decoupled, all at once without
    gradients between them, under torchrun on several processes. With options if need be, as in
    "layerwise(hidden_layers=2)"."""
    run: Text = None
    """The run's folder; by default a new one in runs/."""
    seed: Whole = None
    """Decides the first weights, the order of the samples and every random choice; 0 by default."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""
    diagnose: bool = False
    """Diagnose the model as it begins, and stop a run that cannot learn."""
    parallel: _Parallel = "default"
    """Under torchrun, how its processes share each batch: ddp, the default, or fsdp, which spreads the weights too."""

    def __call__(self, console: Console) -> None:
        import torch

        from .._support.environment import as_device, default_device
        from ..algorithms._registry import as_algorithm
        from ..models.registry import create_for, default_model
        from ..recipes.recipe import default_recipe, from_config
        from ..training.arguments import check_seed
        from ..training.distributed.processes import broadcast_object, is_main, world_size
        from ..training.fit import fit
        from ..training.methods._registry import as_method
        from ..training.runs.run import Run

        console = console if is_main() else Console(quiet=True)
        folder = Path(self.run) if self.run else _new_folder()
        folder, options = broadcast_object((folder, _options(self, Run(folder).command())))
        run = Run(folder, options)
        check_seed(options["seed"])
        method = as_method(options["method"] or "backpropagation")
        device = as_device(self.device) if self.device else default_device()
        named = options["algorithm"] or (None if options["model"] else "heavy_ball")
        algorithm = named and as_algorithm(named)
        data = _load(options, console, self.quiet)
        torch.manual_seed(options["seed"])
        name = options["model"] or default_model(data.shape)
        model = create_for(name, data.shape, data.num_outputs, algorithm, options["binding"])
        recipe = broadcast_object(
            default_recipe(data, model, device) if run.is_new else from_config(run.config()["recipe"])
        )
        try:
            result = fit(
                model,
                data,
                method,
                _recipe(options, recipe),
                run=run,
                seed=options["seed"],
                device=device,
                callbacks=[] if self.quiet else [show_progress(console)],
                checkpoint_every=self.checkpoint_every,
                diagnose=self.diagnose,
                parallel=None if self.parallel == "default" else self.parallel,
            )
        except KeyboardInterrupt:
            own = ["--algorithm", named] if named and ".py:" in named else []
            ranks = ["torchrun", "--nproc-per-node", str(world_size()), "-m", "--"] if world_size() > 1 else []
            again = shlex.join([*ranks, "minimand", "train", "--run", str(folder), *own])
            raise KeyboardInterrupt(f"{again} goes on from the last checkpoint") from None
        console.print(make_table(["", ""], _result_rows(result, str(model.algorithm), name)))
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
        from ..experiments.compare import compare

        try:
            comparison = compare(
                self.algorithm,
                seeds=self.seeds,
                run=self.run,
                callbacks=lambda label: [] if self.quiet else [show_progress(console, label)],
                **_several(self, console),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on from the last checkpoint") from None
        console.print(make_table(comparison.columns(), comparison.rows()))
        console.print(comparison.note, highlight=False)
        console.print(f"report: {self.run}/report.html", highlight=False)


@dataclass(frozen=True)
class Search(_Training):
    """Look for better coefficients in the certified region, and compare what is found with the known algorithms."""

    steps: int = 2
    """How many of its last states and answers a step reads."""
    trials: int = 50
    """How many algorithms are looked at in all."""
    seed: int = 1000
    """Decides what is held out of training, what is suggested and every trial's training."""
    seeds: int = 3
    """How many trainings of each algorithm the final comparison makes; they are seeded 0, 1, ..."""
    run: str = "runs/search"
    """The folder; the same command on the same folder goes on where it was."""
    storage: Text = None
    """The URL of a database for the trials, as Optuna takes it; by default an SQLite file in the folder."""

    def __call__(self, console: Console) -> None:
        from ..experiments.search import search

        try:
            found = search(
                steps=self.steps,
                trials=self.trials,
                seed=self.seed,
                seeds=self.seeds,
                run=self.run,
                storage=self.storage,
                callbacks=lambda label: [] if self.quiet else [show_progress(console, label)],
                tell=lambda line: None if self.quiet else console.print(line, highlight=False, markup=False),
                **_several(self, console),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on where it was") from None
        console.print(make_table(found.columns(), found.rows()))
        console.print(found.note, highlight=False)
        console.print(f"\n{found.source}", highlight=False, markup=False, soft_wrap=True)
        console.print(make_table(["", "", ""], found.certificate.rows(), found.certificate.title))
        console.print("\n".join(["", *found.lines, ""]), highlight=False, markup=False)
        console.print(make_table(found.comparison.columns(), found.comparison.rows()))
        console.print(found.comparison.note, highlight=False)
        console.print(f"algorithm: {self.run}/found.py:Found\nreport: {self.run}/report.html", highlight=False)


def _several(given: _Training, console: Console) -> dict[str, Any]:
    """What a command that trains many models hands on of its options."""
    from .._support.environment import as_device, default_device
    from ..models.registry import create_for, default_model
    from ..recipes.recipe import default_recipe

    options = _options(given, {})
    device = as_device(given.device) if given.device else default_device()
    data = _load(options, console, given.quiet)
    name = options["model"] or default_model(data.shape)
    recipe = default_recipe(data, create_for(name, data.shape, data.num_outputs), device)
    return {
        "data": data,
        "model": name,
        "recipe": _recipe(options, recipe),
        "binding": options["binding"],
        "device": device,
    }


def _options(given: _Training, before: dict[str, Any]) -> dict[str, Any]:
    """The options of a training: given now, else given when its run began, else the defaults."""
    from ..algorithms._registry import as_algorithm
    from ..data.registry import default_data

    kept = {f.name for f in fields(Train)} - {"run", "quiet", "device", "checkpoint_every", "diagnose", "parallel"}
    now = {n: v for n, v in vars(given).items() if n in kept and v is not None and v is not False and v != "default"}
    if "algorithm" not in now and before.get("algorithm"):
        as_algorithm(before["algorithm"], allow_files=False)
    options = {**dict.fromkeys(sorted(kept)), **_DEFAULTS, "compile": False, **before, **now}
    return options if options["data"] else {**options, "data": default_data()}


def _load(options: dict[str, Any], console: Console, quiet: bool) -> Any:
    from ..data.registry import load_data

    folder = {"data_folder": options["data_folder"]} if options["data_folder"] else {}
    data = load_data(options["data"], **folder)
    if not quiet:
        console.print(f"data: {data}", highlight=False)
    return data


def _recipe(options: dict[str, Any], recipe: Any) -> Any:
    """A recipe with what the options change in it."""
    changes = {name: options[name] for name in ("epochs", "batch_size") if options[name] is not None}
    if options["precision"]:
        changes["precision"] = options["precision"]
    if options["compile"]:
        changes["compile"] = True
    if options["lr"] is not None:
        changes["optimizer"] = replace(recipe.optimizer, lr=options["lr"])
    return replace(recipe, **changes)


def _new_folder() -> Path:
    """runs/1, runs/2 ...: the first that is free."""
    number = 1
    while Path(f"runs/{number}").exists():
        number += 1
    return Path(f"runs/{number}")


def show_progress(console: Console, label: str = "") -> Any:
    """A callback that shows a training as it goes."""
    from ..training.hooks.progress import ShowProgress

    return ShowProgress(console, label, every_epoch=not label.startswith("trial "))


def _result_rows(result: Any, algorithm: str, model: str) -> list[list[str]]:
    rows = [["algorithm", algorithm], ["model", model], ["test loss", f"{result.test_loss:.4f}"]]
    if result.test_accuracy is not None:
        rows.append(["test accuracy", f"{100 * result.test_accuracy:.2f} %"])
    if result.ensemble_evaluation and result.ensemble_evaluation.accuracy is not None:
        rows.append(["all classifiers together", f"{100 * result.ensemble_evaluation.accuracy:.2f} %"])
    seconds = sum(record["seconds"] for record in result.history)
    return [*rows, ["epochs", str(len(result.history))], ["training", f"{seconds:.0f} s"]]
