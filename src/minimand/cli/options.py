"""Kinds of options that may be left out: what that means is in their text, not in a default."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from .._support.errors import MinimandError

Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]
Whole = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
Decimal = Annotated[float | None, arg(metavar="X", help_behavior_hint="")]
Pair = Annotated[tuple[float, float] | None, arg(metavar="X X", help_behavior_hint="")]


def check_plot(plot: str | None) -> None:
    """Raise ValueError, before the work, for a figure that could not be written."""
    if plot and not Path(plot).absolute().parent.is_dir():
        raise MinimandError(f"plot is {plot!r}; expected a file in a folder that is there.")
