"""What operations of surgery did to a model, in their order, and how to undo it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from torch import nn

from .._support.errors import MinimandError, MisuseError

Model = TypeVar("Model", bound=nn.Module)


class Change:
    """A record of one operation of surgery on a model; its text tells what was changed and what was left alone."""

    irreversible = ""
    """The reason for which this operation cannot be undone; empty where it can."""
    references: tuple[str, ...] = ()
    """The keys in references.bib of the sources of what was put into the model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.moment = time.time_ns()
        model.__dict__.setdefault("_changes", []).append(self)

    def undo(self) -> nn.Module:
        """Undo this operation and return the model; raises MinimandError where that is impossible, or not its turn."""
        if self.irreversible:
            raise MinimandError(self.irreversible)
        if changes(self.model)[-1] is not self:
            raise MisuseError(
                "another operation came after this one; undo the last one first: mm.changes(model)[-1].undo(), or all "
                "of them: mm.changes(model).undo()."
            )
        self._restore()
        self.model.__dict__["_changes"].remove(self)
        return self.model

    def _restore(self) -> None:
        raise MisuseError(f"{type(self).__name__} cannot be undone.")


@dataclass(frozen=True)
class Changes:
    """The records of surgery on a model and its parts, the oldest first."""

    model: nn.Module
    records: tuple[Change, ...] = field(repr=False)

    def __getitem__(self, index: int) -> Change:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.records)

    def undo(self) -> nn.Module:
        """Undo every operation, the last one first, and return the model as it was: the very modules and names.

        Weights that were trained since stay trained wherever the model before has a place for them: weight and bias of
        a normalization in the one that it took the place of, and the real weight behind a normalized one or one of few
        bits. What the operations added, such as learnable coefficients and gains, is gone; running averages are those
        from before. One operation that cannot be undone, such as `mm.remove_filters`, is an error before any is undone.
        """
        for record in self.records:
            if record.irreversible:
                raise MinimandError(record.irreversible)
        for record in reversed(self.records):
            record.undo()
        return self.model

    def __str__(self) -> str:
        names = {module: name for name, module in self.model.named_modules()}
        texts = [f"in {names[record.model]}: {record}" if names[record.model] else str(record) for record in self]
        return "\n".join(texts) or f"{type(self.model).__name__} was not changed"


def move_like(module: nn.Module, *models: nn.Module) -> None:
    """Give a module the device and dtype of the first floating-point parameter of some models."""
    parameters = (p for model in models for p in model.parameters() if p.is_floating_point())
    if (parameter := next(parameters, None)) is not None:
        module.to(parameter.device, parameter.dtype)


def changes(model: nn.Module) -> Changes:
    """The records of what `mm.harden`, `mm.normalize`, `mm.rewire` and `mm.remove_filters` did to a model.

    Printed, it tells what was changed and what was left alone; `mm.changes(model).undo()` takes all of it back, and
    `mm.changes(model)[-1].undo()` the last operation. Records are no part of the state dict; copies of the model have
    their own.
    """
    records = [record for module in model.modules() for record in module.__dict__.get("_changes", ())]
    return Changes(model, tuple(sorted(records, key=lambda record: record.moment)))
