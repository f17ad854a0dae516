"""Documents of files, folders, Parquet and the hub, and which of them train and which test."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ..._support.errors import MinimandError
from ..files.parquet import ParquetFile
from ..files.pictures import read_bytes, shown
from ..files.splitting import PARTS, as_parts, files_by_part
from ..hub import splits_of_hub

Split = Literal["position", "documents"]
"""What is set aside to test: the end of the text, or whole documents drawn by a fixed seed."""
Parts = dict[str, list[str]]
"""The documents of each part, by its name; of texts that nobody has split, all under ""."""

MOST_BYTES = 2**32
"""The most bytes of a text: it is read into memory before it becomes tokens."""
_SPLIT_BY_DOCUMENTS = 10  # documents from which on whole ones are set aside
_COLUMNS = ("text", "content", "document", "body")
_NAMED = 3  # the most files left out that a note names


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file in UTF-8; raises MinimandError for one that is something else, with the first wrong byte."""
    content = read_bytes(path, most)
    if (place := content.find(b"\0")) >= 0:
        raise MinimandError(
            f"{shown(path)} is no text in UTF-8: it has a zero byte at {place:,}, as programs, images and UTF-16 have."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MinimandError(
            f"{shown(path)} is no text in UTF-8: it has the byte 0x{content[error.start]:02x} at {error.start:,}. A "
            "text in another encoding is converted by iconv -f latin1 -t utf-8, say."
        ) from None


def documents_of_file(path: Path) -> tuple[Parts, tuple[str, ...]]:
    """The one document of a text file, or the rows of a text column of none; and notes."""
    return {"": [read_text(path)]}, ()


def documents_of_folder(place: Path) -> tuple[Parts, tuple[str, ...]]:
    """A document for each text file below a folder, in the order of their paths; what is no text is noted.

    Files called train, test, val, valid or validation, or in folders called so, are parts.
    """
    paths = [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
    insides = sorted(path.relative_to(place) for path in paths)
    parts: Parts = {}
    left_out: list[str] = []
    size = 0
    for inside in insides:
        if any(name.startswith(".") for name in inside.parts):
            continue
        try:
            text = read_text(place / inside, MOST_BYTES - size)
        except MinimandError:
            left_out.append(shown(inside))
            continue
        size += len(text)
        words = [inside.stem.lower(), *(folder.name.lower() for folder in inside.parents)]
        part = next((PARTS[word] for word in words if word in PARTS), "")
        if text:
            parts.setdefault(part, []).append(text)
    if not parts:
        what = f"{len(left_out)} files that are no text in UTF-8" if left_out else "no files"
        raise MinimandError(f"the folder {shown(place)!r} has {what}; expected texts.")
    if "train" not in parts:  # without a train there are no parts: `test` is then a name like others
        parts = {"": [text for texts in parts.values() for text in texts]}
    more = f" and {len(left_out) - _NAMED:,} more" if len(left_out) > _NAMED else ""
    notes = (f"left out, as no text in UTF-8: {', '.join(left_out[:_NAMED])}{more}.",) if left_out else ()
    if "" in parts and len(parts) > 1:
        notes += (f"left out, as neither train, test nor val: {len(parts.pop('')):,} files.",)
    return parts, notes


def documents_of_parquet(place: Path, column: str | None) -> tuple[Parts, tuple[str, ...]]:
    """A document for each row of the text column of Parquet files, by part as their names say; and notes."""
    by_part, others = ({"": [place]}, []) if place.is_file() else files_by_part(place, ".parquet")
    if set(by_part) == {"train"}:
        by_part = {"": by_part["train"]}
    parts: Parts = {}
    for part, paths in by_part.items():
        for path in paths:
            file = ParquetFile.open(path)
            chosen = text_column(file.columns, file.text_columns(), column, shown(path))
            parts.setdefault(part, []).extend(_texts(file.values(chosen), shown(path)))
    return parts, tuple(f"left out, as neither train, test nor val: {other}." for other in others)


def documents_of_hub(repository: str, column: str | None) -> tuple[Parts, tuple[str, ...]]:
    """A document for each row of the text column of a data set of the hub, by its splits; and notes."""
    _, splits = splits_of_hub(repository, "a file or folder that holds the text")
    names = as_parts(splits)
    if "train" not in names:
        names = {"": next(iter(splits))}
    elif len(names) == 1:
        names = {"": names["train"]}
    parts: Parts = {}
    for part, split in names.items():
        features = splits[split].features
        of_text = [
            key for key, feature in features.items() if getattr(feature, "dtype", "") in ("string", "large_string")
        ]
        chosen = text_column(list(features), of_text, column, repository)
        parts[part] = _texts(splits[split][chosen], repository)
    unused = sorted({*splits} - {*names.values()})
    return parts, (f"left out, as neither train, test nor val: {', '.join(unused)}.",) if unused else ()


def text_column(columns: Sequence[str], of_text: Sequence[str], column: str | None, where: str) -> str:
    """The column that holds texts: the one that is named, the only one, or one of a usual name."""
    if column is not None:
        if column not in columns:
            raise MinimandError(f"column is {column!r}, but {where} has {', '.join(columns)}; expected one of these.")
        if column not in of_text:
            raise MinimandError(f"column is {column!r}, which holds no text in {where}; expected {_or(of_text)}.")
        return column
    usual = [name for name in _COLUMNS if name in of_text]
    if usual or len(of_text) == 1:
        return (usual or list(of_text))[0]
    what = (
        f"several columns of text: {', '.join(of_text)}"
        if of_text
        else f"the columns {', '.join(columns)}, none of text"
    )
    raise MinimandError(f"{where} has {what}; expected one of text, or column= with its name.")


def split_parts(parts: Mapping[str, Sequence[str]], how: Split | None, share: float) -> tuple[Parts, str]:
    """The documents to train and to test on, which have no character in common, and a clause on how they were split.

    Parts that the source has stay as they are; a validation part tests where there is no other.
    """
    if "" not in parts:
        named = {name: list(texts) for name, texts in parts.items()}
        if "test" not in named and "validation" in named:
            named["test"] = named.pop("validation")
        if "test" in named:
            return named, ""
        parts = {"": named["train"]}
    texts = [text for text in parts[""] if text]
    how = how or ("documents" if len(texts) >= _SPLIT_BY_DOCUMENTS else "position")
    if how == "documents":
        return _by_documents(texts, share)
    cut = int((1 - share) * sum(map(len, texts)))
    split: Parts = {"train": [], "test": []}
    for text in texts:
        split["train"] += [text[:cut]] if cut > 0 else []
        split["test"] += [text[cut:]] if len(text) > cut else []
        cut = max(cut - len(text), 0)
    return split, f"the last {100 * share:.3g} % set aside to test"


def _by_documents(texts: Sequence[str], share: float) -> tuple[Parts, str]:
    """Whole documents set aside in an order drawn by a fixed seed, none that would make the part far too large."""
    if len(texts) < 2:
        raise MinimandError("split is 'documents', and there is one document; expected 'position', or several.")
    wanted, size, aside = share * sum(map(len, texts)), 0, set()
    for i in torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist():
        if size < wanted and size + len(texts[i]) <= 1.5 * wanted and len(aside) < len(texts) - 1:
            aside.add(i)
            size += len(texts[i])
    aside = aside or {min(range(len(texts)), key=lambda i: len(texts[i]))}
    split = {"train": [t for i, t in enumerate(texts) if i not in aside], "test": [texts[i] for i in sorted(aside)]}
    return split, f"{len(aside):,} of {len(texts):,} documents set aside to test"


def _texts(values: Sequence[Any], where: str) -> list[str]:
    texts = [value for value in values if value]
    if not texts:
        raise MinimandError(f"{where} has no text in its {len(values):,} rows; expected some.")
    if others := [type(text).__name__ for text in texts if not isinstance(text, str)]:
        raise MinimandError(f"{where} has a row whose text is a {others[0]}; expected strings.")
    return texts


def _or(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names)) or "one of text, of which there is none"
