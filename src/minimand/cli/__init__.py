"""The command line: one frozen dataclass a command, whose fields are its options."""

import linecache
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, subcommand

from .diagnose import Diagnose
from .packing import Export, Pack
from .probe import Probe
from .reading import Certify, Cite, Evaluate, List
from .study import Study
from .training import Compare, Search, Train

_Command = (
    Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Pack, subcommand("pack")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Certify, subcommand("certify")]
    | Annotated[Diagnose, subcommand("diagnose")]
    | Annotated[Probe, subcommand("probe")]
    | Annotated[Compare, subcommand("compare")]
    | Annotated[Search, subcommand("search")]
    | Annotated[Study, subcommand("study")]
    | Annotated[List, subcommand("list")]
    | Annotated[Cite, subcommand("cite")]
)


# Seconds that other processes of a torchrun leave the first one to say what ends them all, and torchrun to end them.
_PATIENCE = 5.0


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
    except KeyboardInterrupt as interrupt:
        if _leads():
            print("\n" + "; ".join(["stopped", *map(str, interrupt.args)]), file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not (_is_meant(error) or isinstance(error, OSError)):
            raise
        if not _leads():
            time.sleep(_PATIENCE)
        print(f"minimand: {error}", file=sys.stderr)
        sys.exit(2)


def _leads() -> bool:
    """As in `training.processes`, without waiting for torch."""
    return int(os.environ.get("RANK", 0)) == 0


def _is_meant(error: Exception) -> bool:
    """Whether a `raise` of our own ended the command; any other error is a bug and shows its traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file = trace.tb_frame.f_code.co_filename
    ours = Path(file).is_relative_to(Path(__file__).parents[1])
    return ours and linecache.getline(file, trace.tb_lineno).strip().startswith("raise ")
