"""Errors about names: they say what was given, what was expected and the nearest thing that works."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a `name` that is not among `known`; `what` says what it should have named."""
    known = sorted(known)
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return ValueError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")
