"""Which part of the samples trains and which one tests, by the names of folders and files or set aside."""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from .pictures import shown

PARTS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}
"""The part that a name, in lower case, stands for."""


def visible(folder: Path) -> list[Path]:
    """What is in a folder, by name, but for what is hidden; raises MinimandError where it cannot be read."""
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise MinimandError(f"the folder {shown(folder)} cannot be read ({error.strerror}).") from None


def files_by_part(place: Path, suffix: str) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of a suffix below a folder by part, as their names or their folders' say; and the others' names.

    A name says it by its first word: train.parquet, test-00000-of-00001.parquet, validation/0000.parquet. Where none
    says anything, all of them are training samples.
    """
    files: list[Path] = []
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(folder, name) for name in sorted(names) if name.lower().endswith(suffix) and name[0] != "."]
    by_part: dict[str, list[Path]] = {}
    others = []
    for file in files:
        inside = file.relative_to(place)
        names = [inside.stem, *(folder.name for folder in inside.parents if folder.name)]
        part = next((PARTS[word] for name in names if (word := _first_word(name)) in PARTS), None)
        if part is None:
            others.append(file)
        else:
            by_part.setdefault(part, []).append(file)
    if not by_part and others:
        return {"train": others}, []
    return by_part, [shown(file.relative_to(place)) for file in others]


def _first_word(name: str) -> str:
    return "".join(c if c.isalpha() else " " for c in name.lower()).partition(" ")[0]


def as_parts(names: Iterable[str]) -> dict[str, str]:
    """Names by the part that they stand for; raises MinimandError where two stand for one."""
    parts: dict[str, str] = {}
    for name in names:
        part = PARTS.get(name.lower())
        if part in parts:
            raise MinimandError(f"{parts[part]} and {name} are both the {part} part; expected one of them.")
        if part is not None:
            parts[part] = name
    return parts


def fifth_aside(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The indices of four fifths of the samples and of a fifth, drawn by a fixed seed; of each class as near a fifth.

    Labels are classes (n,); those of a regression, and dense ones (n, ...), are all one class. A class of one sample
    stays in training; raises MinimandError where all do.
    """
    n = len(labels)
    if n < 2:
        raise MinimandError(f"there is {n} sample; expected at least two, of which one is set aside to test.")
    classes = torch.zeros(n, dtype=torch.long) if labels.is_floating_point() or labels.ndim > 1 else labels
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(classes)
    quotas = counts / 5
    taken = quotas.floor()
    remainder = torch.where(counts > taken + 1, quotas - taken, -1.0)
    more = min(max(round(n / 5), 1) - int(taken.sum()), int((remainder >= 0).sum()))
    taken[remainder.argsort(descending=True, stable=True)[:more]] += 1
    if not taken.any():
        raise MinimandError(
            f"each of the {n} samples has a class of its own, so that none can be set aside to test; expected two of a "
            "class, a part for testing, or task='regression' for labels that are quantities."
        )
    order = torch.randperm(n, generator=generator)
    rank = torch.empty(n, dtype=torch.long)
    for c in counts.nonzero().flatten():
        members = order[classes[order] == c]
        rank[members] = torch.arange(len(members))
    aside = rank < taken[classes]
    return (~aside).nonzero().flatten(), aside.nonzero().flatten()
