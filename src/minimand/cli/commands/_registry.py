"""Commands by name: found by presence in this folder, and by entry points `minimand.commands` of other packages."""

from dataclasses import is_dataclass
from typing import Any

from ..._support.errors import WrongTypeError
from ..._support.registry import Registry


def _accepts(thing: Any) -> None:
    if not (isinstance(thing, type) and is_dataclass(thing) and "__call__" in dir(thing)):
        raise WrongTypeError(f"{thing!r} is no command; expected a frozen dataclass with __call__(self, console).")


COMMANDS: Registry[type[Any]] = Registry("command", "commands", __package__ or "", _accepts)
"""Every command by name: a frozen dataclass, whose fields are its options and which is called with a rich console.

`takes`, a ClassVar, may name the kinds of which its options take names, such as ("methods",): its help ends with them.
"""


def list_commands() -> dict[str, str]:
    """A line about each command of the command line, by name."""
    return COMMANDS.lines()
