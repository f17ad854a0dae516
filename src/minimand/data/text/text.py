"""Text as data for language models: documents, split, made tokens, and cut into windows."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from ..._support.checks import check_number
from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ..._support.sealed import SealError
from ..data import Data, Text
from ..files.pictures import shown
from . import subwords
from .documents import (
    Parts,
    Split,
    documents_of_file,
    documents_of_folder,
    documents_of_hub,
    documents_of_parquet,
    split_parts,
)
from .kept import TOKENIZER_FILE, read_tokenizer
from .token_files import TokenPart, tokens_of
from .tokenizers import Bytes, Characters, Tokenizer, alphabet_of, digest_of
from .windows import Windows

_KINDS = ("byte", "character")


def text_data(
    data_folder: str,
    tokens: str = "character",
    context: int = 64,
    windows: int | None = None,
    test_windows: int | None = None,
    split: Split | None = None,
    held_out: float = 0.1,
    across_documents: bool = True,
    column: str | None = None,
) -> Data:
    """Text of a file, a folder of files, or a text column of Parquet files, as windows of tokens.

    Args:
        tokens: "character", "byte", "bpe(512)", byte-pair encoding with so many tokens trained on the training part;
            the folder of a tokenizer of transformers; or that of a run, whose tokenizer is used.
        context: the tokens of a window.
        windows: the windows of an epoch; by default as many as cover the training text once.
        test_windows: the windows that are judged, evenly over the test part; by default all.
        split: "position", the end tests; or "documents", whole ones do: the default of ten documents and more.
        held_out: the share of the text that tests, where it has no part for it.
        across_documents: whether a window may cross from one document into the next, whose end a token of its own
            marks, as is usual; else windows that a document does not fill have no targets beyond its end.
        column: the text column of Parquet files; by default the only one, or `text`.

    Raises:
        MinimandError: an empty text, or files that are none; a context that is longer than the training part.
    """
    place = Path(data_folder)
    if place.is_dir() and not any(place.rglob("*.parquet")):
        parts, notes = documents_of_folder(place)
    elif place.is_dir() or place.suffix.lower() == ".parquet":
        parts, notes = documents_of_parquet(place, column)
    else:
        parts, notes = documents_of_file(place)
    name = shown(place.resolve().stem)
    return make_text(
        name, shown(place), parts, tokens, context, windows, test_windows, split, held_out, across_documents, notes
    )


def text_of_hub(
    repository: str,
    tokens: str = "character",
    context: int = 64,
    windows: int | None = None,
    test_windows: int | None = None,
    split: Split | None = None,
    held_out: float = 0.1,
    across_documents: bool = True,
    column: str | None = None,
) -> Data:
    """The text column of a data set of the hub as windows of tokens; arguments as of `text_data`."""
    parts, notes = documents_of_hub(repository, column)
    source = f"the hub ({repository})"
    return make_text(
        repository, source, parts, tokens, context, windows, test_windows, split, held_out, across_documents, notes
    )


def make_text(
    name: str,
    source: str,
    parts: Mapping[str, Sequence[str]],
    tokens: str = "character",
    context: int = 64,
    windows: int | None = None,
    test_windows: int | None = None,
    split: Split | None = None,
    held_out: float = 0.1,
    across_documents: bool = True,
    notes: tuple[str, ...] = (),
) -> Data:
    """Documents by part as data of windows of tokens; arguments as of `text_data`, parts as `documents` has them."""
    check_number("context", context, 1, math.inf, whole=True)
    for option, value in (("windows", windows), ("test_windows", test_windows)):
        if value is not None:
            check_number(option, value, 1, math.inf, whole=True)
    if split is not None and split not in get_args(Split):
        raise unknown_name("split", str(split), get_args(Split))
    check_number("held_out", held_out, 0.001, 0.999)
    if not isinstance(across_documents, bool):
        raise WrongTypeError(f"across_documents is {across_documents!r}; expected True or False.")
    check_tokens(tokens)
    if not any(text for texts in parts.values() for text in texts):
        raise MinimandError(f"{name} is empty; expected some text.")
    has_separator = sum(map(len, parts.values())) > 1
    texts, how = split_parts(parts, split, held_out)
    encoded = tokens_of(texts, *_maker(tokens, texts, has_separator))
    _check_lengths(name, encoded.parts, context)

    def as_windows(part: TokenPart, limit: int | None) -> Windows:
        return Windows(part.tokens, context, encoded.key, limit, None if across_documents else part.bounds)

    part = encoded.parts["test"]
    validation = encoded.parts.get("validation")
    count = max(len(part.tokens), 1)
    return Data(
        name,
        as_windows(encoded.parts["train"], windows),
        as_windows(part, test_windows),
        (context,),
        classes=encoded.tokenizer.symbols,
        source=source + (f" ({how})" if how else ""),
        validation=None if validation is None else as_windows(validation, test_windows),
        integers=True,
        notes=(*notes, *encoded.notes),
        text=Text(encoded.tokenizer, part.bytes / count, part.characters / count),
    )


def check_tokens(tokens: str) -> None:
    """Raise MinimandError unless a text names a kind of tokens or a file or folder that is there."""
    if not isinstance(tokens, str) or not tokens.strip():
        raise MinimandError(f"tokens is {tokens!r}; expected 'character', 'byte', 'bpe(512)', or a folder.")
    is_kind = tokens in _KINDS or subwords.vocabulary_of(tokens) is not None
    if not is_kind and not Path(tokens).expanduser().exists():
        if tokens.strip().startswith("bpe"):
            raise MinimandError(
                f"tokens is {tokens!r}; expected byte-pair encoding with a vocabulary, as in 'bpe(512)'."
            )
        error = unknown_name("kind of tokens", tokens, (*_KINDS, "bpe(512)"))
        raise MinimandError(f"{error} Nor is there a folder {shown(tokens)!r} with a tokenizer.")


def _maker(tokens: str, texts: Parts, has_separator: bool):
    """What the tokenizer of some texts is, in a few words, and the function that makes it."""
    if tokens == "byte":
        return f"byte {has_separator}", lambda: (Bytes(has_separator), ())
    if tokens == "character":
        return f"character {has_separator}", lambda: (_characters(texts, has_separator), ())
    if (vocabulary := subwords.vocabulary_of(tokens)) is not None:
        return f"bpe {vocabulary} {has_separator}", partial(subwords.trained, vocabulary, texts["train"], has_separator)
    tokenizer = _from_folder(Path(tokens).expanduser(), has_separator)
    return f"folder {digest_of(tokenizer)}", lambda: (tokenizer, _notes_on(tokenizer, texts["train"], has_separator))


def _characters(texts: Parts, has_separator: bool) -> Characters:
    """The alphabet of all parts together, so that a rare character of the test part has a token too."""
    return Characters(alphabet_of([text for part in texts.values() for text in part]), has_separator)


def _from_folder(folder: Path, has_separator: bool) -> Tokenizer:
    """The tokenizer of a run of minimand, as it is, or one of transformers."""
    file = folder / TOKENIZER_FILE
    if file.is_file():
        try:
            return read_tokenizer(folder)
        except SealError:
            # A damaged tokenizer of a run must not be taken for another kind of folder.
            if (folder / "config.yaml").is_file():
                raise
    return subwords.from_folder(folder, has_separator)


def _notes_on(tokenizer: Tokenizer, texts: Sequence[str], has_separator: bool) -> tuple[str, ...]:
    """Notes where a tokenizer does not give the text back as it was, or marks no ends of documents."""
    sample, notes = texts[0][:10_000], ()
    if tokenizer.decode(tokenizer.encode(sample).tolist()) != sample:
        notes = (f"{tokenizer.name} does not keep the text as it is: bits per byte count the bytes before.",)
    if has_separator and tokenizer.separator is None:
        notes += (f"{tokenizer.name} has no token for the end of a document: one follows the other without a mark.",)
    return notes


def _check_lengths(name: str, parts: Mapping[str, TokenPart], context: int) -> None:
    for which, part in parts.items():
        if (length := len(part.tokens)) < 2:
            raise MinimandError(f"the {which} part of {name} has {length} tokens; expected at least 2.")
    length = len(parts["train"].tokens)
    if length <= context:
        raise MinimandError(
            f"context is {context}, and the training part of {name} has {length:,} tokens; expected at most "
            f"{length - 1:,}, or more text."
        )
