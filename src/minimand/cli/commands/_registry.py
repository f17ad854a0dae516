"""Commands by name: found by presence in this folder, and by entry points `minimand.commands` of other packages."""

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeVar, dataclass_transform

from ..._support.errors import WrongTypeError
from ..._support.names.registry import Registry

Command = TypeVar("Command")


def _accepts(thing: Any) -> None:
    if not (isinstance(thing, type) and is_dataclass(thing) and "__call__" in dir(thing)):
        raise WrongTypeError(f"{thing!r} is no command; expected a frozen dataclass with __call__(self, console).")


COMMANDS: Registry[type[Any]] = Registry("command", "commands", __package__ or "", _accepts)
"""Every command by name: a frozen dataclass, whose fields are its options and which is called with a rich console.

`takes`, a ClassVar, may name the kinds of which its options take names, such as ("methods",): its help ends with them.
"""


@dataclass_transform(frozen_default=True)
def command(name: str) -> Callable[[type[Command]], type[Command]]:
    """A decorator that makes a class a frozen dataclass and the command of a name."""
    return lambda options: COMMANDS.register(name)(dataclass(frozen=True)(options))


def list_commands() -> dict[str, str]:
    """A line about each command of the command line, by name."""
    return COMMANDS.lines()
