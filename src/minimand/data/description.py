"""Data in a few plain values: what has to be known of them to run a model where the samples are not there."""

from dataclasses import fields
from typing import Any

from .._support.errors import MinimandError
from .._support.names.calls import call_with
from .data import Data, Text
from .samples import NoSamples
from .text.tokenizers import Tokenizer, digest_of

# What is said elsewhere in a run's configuration, or matters in training alone.
_LEFT_OUT = {"name", "train", "test", "augmentation", "references", "source", "loaded", "validation", "notes", "text"}


def describe(data: Data) -> dict[str, Any]:
    """The shape, task, classes and normalization of some data as plain values; `described` is the inverse."""
    values = {field.name: getattr(data, field.name) for field in fields(data) if field.name not in _LEFT_OUT}
    plain = {name: _plain(value) for name, value in values.items() if _is_plain(value)}
    if data.text is None:
        return plain
    text = {"tokens": data.text.tokenizer.name, "tokenizer": digest_of(data.text.tokenizer)}
    for length in ("bytes_per_token", "characters_per_token"):
        text[length] = getattr(data.text, length)
    return {**plain, "classes": [], "text": text}  # the classes are the tokenizer's, which may have many


def described(description: dict[str, Any], name: str = "", tokenizer: Tokenizer | None = None) -> Data:
    """Data without samples, of which `describe` told; of a text with its tokenizer.

    Raises MinimandError for values that data do not have, and for another tokenizer.
    """
    values = {key: _frozen(value) for key, value in description.items()}
    if (text := values.get("text")) is not None:
        if tokenizer is None or digest_of(tokenizer) != text["tokenizer"]:
            raise MinimandError("the tokenizer is not the one that the model was trained with.")
        values["text"] = Text(tokenizer, float(text["bytes_per_token"]), float(text["characters_per_token"]))
        values["classes"] = tokenizer.symbols
    return call_with(Data, {"name": name, "train": NoSamples(), "test": NoSamples(), **values}, "data")


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | None)


def _plain(value: Any) -> Any:
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
