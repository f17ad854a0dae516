"""What a batch stands for: the arguments that a model is called with."""

from collections.abc import Mapping
from typing import Any


def as_arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the named arguments that a batch stands for: a tensor, a tuple or list, or a mapping."""
    if isinstance(batch, Mapping):
        return (), {key: batch[key] for key in sorted(batch)}  # in one order, whatever a collator made of it
    return (tuple(batch), {}) if isinstance(batch, tuple | list) else ((batch,), {})
