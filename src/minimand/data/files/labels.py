"""Labels as tables have them, whole numbers, words or quantities, as targets."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..._support.checks import check_choice
from ..._support.errors import MinimandError, unknown_name

LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "y")
"""The names, in lower case, of columns that hold labels."""
Where = Callable[[int], str]
"""A function from the number of a row, from 0, to where it is: its file and its row, counted from 1."""
Task = Literal["classification", "regression"]
_MANY = 50
_LARGEST = torch.finfo(torch.float32).max


def label_column(
    columns: Sequence[str], label: str | None, others: Sequence[str], where: str, likely: Sequence[str] = ()
) -> str:
    """The name of the column of labels: `label`, else one called so, a likely one, or the only one beside `others`.

    Raises:
        MinimandError: there is none; names the columns.
    """
    if label is not None:
        if label not in columns:
            raise unknown_name(f"column of {where}", label, columns)
        return label
    for name in LABEL_NAMES:
        for column in columns:
            if column.lower() == name:
                return column
    rest = [*likely][:1] or [column for column in columns if column not in others]
    if len(rest) != 1 or not others:
        raise MinimandError(
            f"{where} has the columns {', '.join(columns)}; expected one called {', '.join(LABEL_NAMES[:2])}, class or "
            "target, or its name: label='...'."
        )
    return rest[0]


def as_targets(
    labels: Mapping[str, Sequence[Any]], where: Mapping[str, Where], names: Sequence[str] = (), task: Task | None = None
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Targets by part, the names of the classes, none for a regression, and what is to be said of them.

    Whole numbers are indices of `names` where there are some; otherwise whole numbers and words are classes, in order,
    and other numbers quantities.

    Raises:
        MinimandError: a missing label, or one that no training sample has; names its file and row.
    """
    if task is not None:
        check_choice("task", task, Task)
    for part, values in labels.items():
        for i, value in enumerate(values):
            if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
                raise MinimandError(f"{where[part](i)}: the label is missing; expected one in every row.")
    train = labels["train"]
    if names:
        known: dict[Any, int] = {i: i for i in range(len(names))}
        classes = tuple(map(str, names))
    elif task == "regression" or (task is None and any(isinstance(value, float) for value in train)):
        return {part: _numbers(values, where[part]) for part, values in labels.items()}, (), ()
    else:
        distinct = sorted(set(train), key=lambda value: (isinstance(value, str), value))
        if len(distinct) < 2:
            raise MinimandError(
                f"{where['train'](0)} and all others have the label {train[0]!r}; expected two classes."
            )
        known, classes = {value: i for i, value in enumerate(distinct)}, tuple(map(str, distinct))
    targets = {}
    for part, values in labels.items():
        for i, value in enumerate(values):
            if value not in known:
                expected = ", ".join(classes[:10]) + (" ..." if len(classes) > 10 else "")
                raise MinimandError(
                    f"{where[part](i)}: the label {value!r} is that of no training sample; expected {expected}."
                )
        targets[part] = torch.tensor([known[value] for value in values], dtype=torch.long)
    is_quantity = not names and task is None and len(classes) > max(_MANY, len(train) // 10)
    note = f"{len(classes):,} different labels are taken as classes; task='regression' takes them as quantities."
    return targets, classes, ((note,) if is_quantity and not isinstance(train[0], str) else ())


def _numbers(values: Sequence[Any], where: Where) -> Tensor:
    numbers = []
    for i, value in enumerate(values):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not abs(number) <= _LARGEST:
            raise MinimandError(f"{where(i)}: the label is {value!r}; expected a finite number of float32.")
        numbers.append(number)
    return torch.tensor(numbers)
