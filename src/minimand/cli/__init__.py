"""The command line: a frozen dataclass for each command, whose fields are its options."""

import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Annotated, Any, Union

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, subcommand

import minimand

from .._support.allocation import keep_freed_memory
from .._support.errors import MinimandError, unknown_name
from .commands._registry import COMMANDS
from .words import in_options

# Seconds that other processes of a torchrun leave the first one to say what ends them all, and torchrun to end them.
_PATIENCE = 5.0
_PACKAGE = os.path.dirname(minimand.__file__)
# Words by which other programs have the same.
_ALIASES = {"--install-completion": ["completion", "--install"], "--show-completion": ["completion"]}

# What a setting looks like, by the kind that has it: --tokens or --width are no options of their own.
_WITH_SETTINGS = {
    "data": "--data \"song.txt(tokens='byte')\"",
    "models": '--model "mlp(width=32)"',
    "algorithms": 'algorithm "heavy_ball(momentum=0.3)"',
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a mistake in its options ends it with a message and the exit status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_main = int(os.environ.get("RANK", 0)) == 0  # as training.distributed tells it, without loading torch
    console = Console(highlight=False, markup=False, quiet=not is_main)
    command: Callable[[Console], None] | None = None
    as_before, warnings.formatwarning = warnings.formatwarning, _warning_text
    keep_freed_memory()
    try:
        command = _read(words, console)
        command(console)
    except KeyboardInterrupt as interrupt:
        if is_main:
            print("\n" + "; ".join(["stopped", *map(str, interrupt.args)]), file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (MinimandError, OSError) as error:
        if not is_main:
            time.sleep(_PATIENCE)
        print(f"minimand: {in_options(str(error), command)}", file=sys.stderr)
        sys.exit(2)
    finally:
        warnings.formatwarning = as_before


def _warning_text(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as a person reads it; of others than minimand with the place that it is about."""
    if filename.startswith(_PACKAGE):
        return f"minimand: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _read(words: list[str], console: Console) -> Callable[[Console], None]:
    """The command that the words of a command line stand for."""
    if words == ["--version"]:
        return lambda console: console.print(f"minimand {minimand.__version__}")
    words = _ALIASES.get(words[0], words[:1]) + words[1:] if words else words
    name = words[0] if words and not words[0].startswith("-") else None
    if name is not None and name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    commands: Any = Union[tuple(Annotated[command, subcommand(name)] for name, command in COMMANDS.items())]  # noqa: UP007
    try:
        return tyro.cli(
            FlagCreatePairsOff[commands],
            prog="minimand",
            description="Deep networks whose architecture and training are derived from optimization problems. "
            "`minimand list KIND` names what there is; `minimand --version` says which minimand this is; "
            "`minimand --install-completion` completes commands and options under the tab key.",
            args=words,
        )
    except SystemExit:
        takes = getattr(COMMANDS[name], "takes", ()) if name is not None else ()
        if not {"-h", "--help"}.isdisjoint(words):
            # The names that its options take come from registries, which load torch.
            for kind in takes:
                console.print(f"{kind}: {', '.join(getattr(minimand, f'list_{kind}')())}  (minimand list {kind})")
        elif takes and _has_unknown_option(words[1:], COMMANDS[words[0]]):
            settings = [text for kind, text in _WITH_SETTINGS.items() if kind in takes]
            print(f"Settings stand with the name that has them: {', '.join(settings)}.", file=sys.stderr)
        raise


def _has_unknown_option(words: list[str], command: Any) -> bool:
    """Whether a word is no option of a command, but might be a setting of something that it takes."""
    options = {f"--{field.name.replace('_', '-')}" for field in fields(command)}
    return any(word.startswith("--") and word.partition("=")[0].replace("_", "-") not in options for word in words)
