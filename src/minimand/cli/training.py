"""What the commands that train share: their options put together, their data and recipe, their progress."""

from dataclasses import fields, replace
from typing import Any

from rich.console import Console

from .options import TrainingOptions
from .reading import read_data

# Options that say where and how a training runs, not what it computes: they are not kept with a run.
_NOT_KEPT = {"run", "quiet", "device", "checkpoint_every", "diagnose", "parallel"}


def merge_options(command: TrainingOptions, earlier: dict[str, Any]) -> dict[str, Any]:
    """The options of a training: those of the command, else those its run began with, else the defaults."""
    from ..algorithms import as_algorithm
    from ..data.registry import default_data

    names = {field.name for field in fields(command)} - _NOT_KEPT
    now = {n: v for n, v in vars(command).items() if n in names and v is not None and v is not False}
    if "algorithm" not in now and earlier.get("algorithm"):
        as_algorithm(earlier["algorithm"], allow_files=False)
    options = {**dict.fromkeys(sorted(names)), "seed": 0, "compile": False, **earlier, **now}
    return options if options["data"] else {**options, "data": default_data()}


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
    recipe = default_recipe(data, create_for(model, data.shape, data.num_outputs), device)
    return {
        "data": data,
        "model": model,
        "recipe": adapt_recipe(recipe, options),
        "binding": options["binding"],
        "device": device,
    }


def progress(console: Console, quiet: bool, label: str = "") -> list[Any]:
    """The callbacks that show a training as it goes."""
    from ..training.hooks.progress import ShowProgress

    return [] if quiet else [ShowProgress(console, label, every_epoch=not label.startswith("trial "))]
