"""Kinds of options that may be left out: what that means is in their text, not in a default."""

from typing import Annotated

from tyro.conf import arg

Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]
Whole = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
Decimal = Annotated[float | None, arg(metavar="X", help_behavior_hint="")]
Pair = Annotated[tuple[float, float] | None, arg(metavar="X X", help_behavior_hint="")]
