"""What several commands read: named data, the model of a run, a model in a file of one's own."""

from pathlib import Path
from typing import Any

from rich.console import Console

from .._support.errors import MinimandError, WrongTypeError, unknown_name


def read_data(name: str, data_folder: str | None) -> Any:
    """The named data, from files in `data_folder` if there is one."""
    from ..data.registry import load_data

    return load_data(name) if data_folder is None else load_data(name, data_folder=data_folder)


def reopen_trained(run: str, algorithm: str | None, console: Console) -> tuple[Any, int]:
    """A run opened again with the weights of its last checkpoint that can be read, and the step of that one."""
    from ..experiments.reopen import reopen

    opened = reopen(run, algorithm)
    step, problems = opened.load_trained()
    for problem in problems:
        console.print(f"note: {problem} The one before it is used.")
    return opened, step


def read_own_model(text: str) -> Any:
    """The module that `path/to/file.py:name` or `path/to/file.py:Net(width=64)` stands for."""
    from torch import nn

    from .._support.calls import call_with, parse_call, run_file

    source, _, call = text.rpartition(".py:")
    name, arguments = parse_call(call, "model")
    module_name, names = run_file(Path(f"{source}.py"), "model")
    if name not in names:
        makers = [key for key, value in names.items() if getattr(value, "__module__", "") == module_name]
        makers += [key for key, value in names.items() if isinstance(value, nn.Module)]
        raise unknown_name(f"model in {source}.py", name, makers)
    model = names[name]
    if not isinstance(model, nn.Module) and callable(model):
        try:
            model = call_with(model, arguments, name)
        except MinimandError:
            raise
        except TypeError as error:
            raise MinimandError(
                f"{text} cannot be made ({error}); expected arguments, as in file.py:Net(width=64)."
            ) from error
        except Exception as error:
            raise MinimandError(f"{text} raises {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise WrongTypeError(
            f"{text} is {type(model).__name__}; expected a module, or a class or function that makes one."
        )
    return model


def save_figure(figure: Any, path: Path | str, console: Console) -> None:
    """Write a figure to a file, and say where it is."""
    figure.savefig(path)
    console.print(f"figure: {path}")
