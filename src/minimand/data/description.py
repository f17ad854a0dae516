"""Data in a few plain values: what has to be known of them to run a model where the samples are not there."""

from dataclasses import fields
from typing import Any

from .._support.calls import call_with
from .data import Data
from .samples import NoSamples

# What is said elsewhere in a run's configuration, or matters in training alone.
_LEFT_OUT = {"name", "train", "test", "augmentation", "references", "source", "loaded", "validation", "notes"}


def describe(data: Data) -> dict[str, Any]:
    """The shape, task, classes and normalization of some data as plain values; `described` is the inverse."""
    values = {field.name: getattr(data, field.name) for field in fields(data) if field.name not in _LEFT_OUT}
    return {name: _plain(value) for name, value in values.items() if _is_plain(value)}


def described(description: dict[str, Any], name: str = "") -> Data:
    """Data without samples, of which `describe` told; raises MinimandError for values that data do not have."""
    values = {key: _frozen(value) for key, value in description.items()}
    return call_with(Data, {"name": name, "train": NoSamples(), "test": NoSamples(), **values}, "data")


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | None)


def _plain(value: Any) -> Any:
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
