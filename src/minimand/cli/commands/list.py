"""`minimand list`: what there is of a kind."""

from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

import minimand

from ..._support.errors import unknown_name
from ..._support.tables import make_table
from ._registry import command

_KINDS = sorted(name.removeprefix("list_") for name in minimand.__all__ if name.startswith("list_"))


@command("list")
class List:
    """List the algorithms, methods, models ... that there are, with a line about each."""

    kind: Positional[Annotated[str, arg(metavar=f"{{{','.join(_KINDS)}}}")]]
    """The kind of things to list."""

    def __call__(self, console: Console) -> None:
        if self.kind not in _KINDS:
            raise unknown_name("kind", self.kind, _KINDS)
        lines = getattr(minimand, f"list_{self.kind}")()
        console.print(make_table(["name", "description"], [[name, line] for name, line in lines.items()]))
