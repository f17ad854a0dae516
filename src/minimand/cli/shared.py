"""What several commands do: they read data and models, put the options of a training together, show its progress."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from .options import TrainingOptions

# Options that say where and how a training runs, not what it computes: they are not kept with a run.
_NOT_KEPT = {"run", "quiet", "device", "checkpoint_every", "diagnose", "parallel"}


def merge_options(command: TrainingOptions, earlier: dict[str, Any]) -> dict[str, Any]:
    """The options of a training: those of the command, else those its run began with, else the defaults."""
    from ..algorithms import as_algorithm
    from ..data.registry import default_data
    from ..models.own import forbid_own

    names = {field.name for field in fields(command)} - _NOT_KEPT
    now = {n: v for n, v in vars(command).items() if n in names and v is not None and v is not False}
    if "algorithm" not in now and earlier.get("algorithm"):
        as_algorithm(earlier["algorithm"], allow_files=False)
    if "model" not in now:
        forbid_own(earlier.get("model"))
    options = {**dict.fromkeys(sorted(names)), "seed": 0, "compile": False, **earlier, **now}
    return options if options["data"] else {**options, "data": default_data()}


def read_data(name: str, data_folder: str | None) -> Any:
    """The named data, from files in `data_folder` if there is one."""
    from ..data.registry import load_data

    return load_data(name) if data_folder is None else load_data(name, data_folder=data_folder)


def reopen_trained(run: str, algorithm: str | None, console: Console, model: str | None = None) -> Any:
    """A run opened again with the weights of its last checkpoint that can be read; notes tell of newer ones."""
    from ..experiments.reopen import load_run

    opened = load_run(run, model, algorithm)
    for note in opened.notes:
        console.print(f"note: {note}")
    return opened


def read_own_model(text: str) -> Any:
    """The module that `path/to/file.py:name` or `path/to/file.py:Net(width=64)` stands for."""
    from ..models.own import make_own

    return make_own(text)


def save_figure(figure: Any, path: Path | str, console: Console) -> None:
    """Write a figure to a file, and say where it is."""
    figure.savefig(path)
    console.print(f"figure: {path}")


def load_data(options: dict[str, Any], console: Console, quiet: bool) -> Any:
    """The data of a training, shown unless it is quiet."""
    data = read_data(options["data"], options["data_folder"])
    if not quiet:
        console.print(f"data: {data}")
    return data


def adapt_recipe(recipe: Any, options: dict[str, Any]) -> Any:
    """A recipe with the options that have the name of one of its fields, and the learning rate, in place of its own."""
    names = {field.name for field in fields(recipe)}
    changes = {n: v for n, v in options.items() if n in names and v is not None and v is not False}
    if options["lr"] is not None:
        changes["optimizer"] = replace(recipe.optimizer, lr=options["lr"])
    return replace(recipe, **changes)


def several_trainings(command: TrainingOptions, console: Console) -> dict[str, Any]:
    """What a command that trains many models hands on of its options."""
    from .._support.environment import as_device
    from ..models.registry import create_for, default_model
    from ..recipes.recipe import default_recipe

    options = merge_options(command, {})
    device = as_device(command.device)
    data = load_data(options, console, command.quiet)
    model = options["model"] or default_model(data.shape)
    recipe = default_recipe(data, create_for(model, data.shape, data.num_outputs))
    recipe = adapt_recipe(recipe, options)
    return {"data": data, "model": model, "recipe": recipe, "binding": options["binding"], "device": device}


def progress(console: Console, quiet: bool, label: str = "") -> tuple[Any, ...]:
    """The callbacks that show a training as it goes."""
    from ..training.hooks.progress import with_progress

    return with_progress((), not quiet, label, console)
