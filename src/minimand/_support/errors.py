"""Errors that minimand raises on purpose: what was given, what was expected and the nearest thing that works."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

LONGEST_MESSAGE = 2000
"""The characters of a message that is read as a whole."""


class MinimandError(ValueError):
    """An error that minimand raises on purpose, whose message is meant for the person who reads it.

    The command line shows it as one line; any other error is a fault of minimand and shows its traceback. A message
    that repeats something very long loses its middle.
    """

    def __str__(self) -> str:
        text = super().__str__()
        half = LONGEST_MESSAGE // 2
        return text if len(text) <= LONGEST_MESSAGE else f"{text[: half - 5]} ... {text[-half:]}"


class WrongTypeError(MinimandError, TypeError):
    """An argument of a type that cannot be used."""


class MissingPackageError(ModuleNotFoundError, MinimandError):
    """An optional package that is not installed; the message names the extra that brings it."""


class MisuseError(MinimandError, RuntimeError):
    """A call at a moment or in an order that cannot work."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> MinimandError:
    """The error for a `name` that is not among `known`; `what` says what it should have named."""
    known = sorted(set(known))
    nearest = min(get_close_matches(name, known, n=5, cutoff=0.5), key=lambda near: _distance(name, near), default="")
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    return MinimandError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


def _distance(name: str, other: str) -> tuple[float, int]:
    """The distance of two names. Of equally like ones the number decides: resnet21 is near resnet20, not resnet32."""
    numbers = [int(match.group()) if (match := re.search(r"\d+", text)) else 0 for text in (name, other)]
    return -SequenceMatcher(None, name, other).ratio(), abs(numbers[0] - numbers[1])
