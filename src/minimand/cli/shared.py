"""What several commands do: they read data and models, put the options of a training together, show its progress."""

import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from .._support.errors import MinimandError
from .options import TrainingOptions

# Options that say where and how a training runs, not what it computes: they are not kept with a run.
NOT_KEPT = {"run", "quiet", "device", "checkpoint_every", "diagnose", "parallel", "profile", "config", "jobs", "engine"}


def merge_options(command: TrainingOptions, earlier: dict[str, Any]) -> dict[str, Any]:
    """The options of a training: those of the command, else those its run began with, else the defaults."""
    from ..algorithms import as_algorithm
    from ..data.registry import default_data
    from ..models.own import forbid_own

    names = {field.name for field in fields(command)} - NOT_KEPT
    now = {n: v for n, v in vars(command).items() if n in names and v is not None and v is not False}
    if "algorithm" not in now and earlier.get("algorithm"):
        as_algorithm(earlier["algorithm"], allow_files=False)
    if "model" not in now:
        forbid_own(earlier.get("model"))
    options = {**dict.fromkeys(sorted(names)), "seed": 0, "compile": False, **earlier, **now}
    return options if options["data"] else {**options, "data": default_data(takes_tokens(options["model"]))}


def takes_tokens(model: str | None) -> bool:
    """Whether text names a model that takes tokens; False for one's own, or where it names none."""
    from .._support.names.calls import parse_call
    from ..models.info import model_info
    from ..models.own import is_own

    return bool(model) and not is_own(model) and model_info(parse_call(str(model), "model")[0]).takes_tokens


def read_data(name: str, data_folder: str | None, **options: Any) -> Any:
    """The named data, from files in `data_folder` if there is one, with options of the reader."""
    from ..data.registry import DataNote, load_data

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataNote)  # said below, as a person reads it
        folder = {} if data_folder is None else {"data_folder": data_folder}
        data = load_data(name, **folder, **options)
    for note in data.notes:
        print(f"note: {data.name}: {note}", file=sys.stderr)
    return data


def read_data_for(opened: Any, name: str, data_folder: str | None) -> Any:
    """The named data for the model of a run; as windows of the run's own tokens where that is one on text.

    Raises:
        MinimandError: no text for a run on text; for any other text, or samples of other channels.
    """
    from ..data.registry import is_never_text

    run, inputs = opened.run.folder, opened.inputs
    if inputs.text is not None:
        if is_never_text(name):
            raise MinimandError(f"{run} was trained on text, and {name} is none; expected --data to name a text.")
        return read_data(name, data_folder, tokens=str(run), context=inputs.shape[0])
    data = read_data(name, data_folder)
    is_alike = len(data.shape) == len(inputs.shape) and data.shape[:1] == inputs.shape[:1]  # images may have any size
    if data.is_text or not is_alike:
        what = "is text" if data.is_text else f"has {data.shape}"
        raise MinimandError(
            f"{run} was trained on samples of the shape {inputs.shape}, and {name} {what}; expected --data to name "
            "such samples."
        )
    return data


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


def check_options(options: dict[str, Any]) -> None:
    """Raise MinimandError, before any data are read, for options that no model and no data could make right."""
    from .._support.names.calls import parse_call
    from ..models.info import model_info
    from ..models.own import check_own, is_own
    from ..models.registry import OF_ANY_MODEL
    from ..networks.memory.choice import check_memory
    from ..recipes import Recipe

    adapt_recipe(named_recipe(options) or Recipe(), options)
    model = options["model"]
    if model and is_own(model):
        check_own(model)
        for option in ("binding", "weight_bits"):
            if options.get(option) is not None:
                raise MinimandError(f"{option} is {options[option]!r}, but the model is your own: write it there.")
    elif model:
        name, settings = parse_call(model, "model")
        check_memory(settings.get("memory", "store"), settings.get("exact"))
        model_info(name).complete({key: value for key, value in settings.items() if key not in OF_ANY_MODEL})


def named_recipe(options: dict[str, Any]) -> Any:
    """The recipe that --recipe names, None for none; epochs and batch, which may decide a rate, are its own options."""
    from ..recipes.registry import recipe

    sizes = {name: options[name] for name in ("epochs", "batch_size") if options.get(name) is not None}
    return None if options["recipe"] is None else recipe(options["recipe"], **sizes)


def adapt_recipe(recipe: Any, options: dict[str, Any]) -> Any:
    """A recipe with the options that have the name of one of its fields, or of one of its optimizer's, in place."""
    names = {field.name for field in fields(recipe)}
    changes = {n: v for n, v in options.items() if n in names and v is not None and v is not False}
    if "augmentation" in changes:
        changes["augmentation"] = _augmentation(changes["augmentation"])
    recipe = replace(recipe, **changes)
    of_optimizer = {n: options[n] for n in ("lr", "weight_decay") if options.get(n) is not None}
    for name in of_optimizer:
        if name not in {field.name for field in fields(recipe.optimizer)}:
            optimizer = type(recipe.optimizer).__name__
            raise MinimandError(f"--{name.replace('_', '-')} is given, but {optimizer} has no {name}.")
    return replace(recipe, optimizer=replace(recipe.optimizer, **of_optimizer)) if of_optimizer else recipe


def _augmentation(text: str) -> Any:
    """The augmentation of text such as "pad=4, flip=True"; of none what changes nothing."""
    from .._support.names.calls import call_with, parse_call
    from ..recipes.augmentation import Augmentation

    if text.strip().lower() == "none":
        return Augmentation()
    try:
        _, settings = parse_call(f"augmentation({text})", "augmentation")
    except MinimandError:
        raise MinimandError(
            f"--augmentation is {text!r}; expected none, or settings as in 'pad=4, flip=True'."
        ) from None
    return call_with(Augmentation, settings, "augmentation")


def several_trainings(command: TrainingOptions, console: Console) -> dict[str, Any]:
    """What a command that trains many models hands on of its options."""
    from .._support.torch.environment import as_device
    from ..models.registry import default_model, model_for
    from ..recipes import default_recipe, from_config
    from .configuration import with_config

    command, recipe_config = with_config(command)
    options = merge_options(command, {})
    device = as_device(command.device)
    check_options(options)
    data = load_data(options, console, command.quiet)
    model = options["model"] or default_model(data.shape, data.is_text)
    recipe = named_recipe(options) or (None if recipe_config is None else from_config(recipe_config))
    recipe = adapt_recipe(recipe or default_recipe(data, model_for(model, data)), options)
    return {"data": data, "model": model, "recipe": recipe, "binding": options["binding"], "device": device}


def progress(console: Console, quiet: bool, label: str = "") -> tuple[Any, ...]:
    """The callbacks that show a training as it goes."""
    from ..training.hooks.watching.progress import with_progress

    return with_progress((), not quiet, label, console)


def queue_options(command: Any, console: Console, quiet: bool) -> dict[str, Any]:
    """How a command with --jobs and --engine does its trainings, and what shows those of this process as they go."""
    from ..experiments.tasks.queue import as_queue

    options = {"jobs": command.jobs, "engine": command.engine}
    is_here = as_queue(**options).is_here
    return {**options, "callbacks": lambda label: progress(console, quiet, label)} if is_here else options
