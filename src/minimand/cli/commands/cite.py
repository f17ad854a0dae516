"""`minimand cite`: the references of what was used."""

from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from tyro.conf import Positional

from ._registry import command


@command("cite")
class Cite:
    """Print the BibTeX of algorithms, models and data sets, or of what a run used."""

    takes: ClassVar[tuple[str, ...]] = ("algorithms", "models", "data")
    things: Positional[tuple[str, ...]]
    """Names of algorithms, models, data sets, methods, schemes or studies, or folders of runs."""

    def __call__(self, console: Console) -> None:
        from ...experiments.citing import cite
        from ...experiments.reopen import used_by

        things: list[Any] = []
        for thing in self.things:
            things += used_by(thing) if Path(thing).is_dir() else [thing]
        cite(*things)
