"""Tokens of several characters: byte-pair encoding trained here, or any tokenizer of transformers (extra `text`)."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..._support.checks import check_number
from ..._support.errors import MinimandError
from ..._support.extras import require
from ..files.pictures import read_bytes, shown
from .tokenizers import END_OF_TEXT, check_ids

_TRAINED_ON = 2**25  # characters that merges are learned from, at most: a minute, and some GB
_MOST_BYTES = 2**26  # of a tokenizer.json; the largest vocabularies have about 2**25
_PURPOSE = "for tokens of several characters"
_SEPARATORS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[SEP]")  # GPT-2's, Llama's, T5's, Gemma's, BERT's


@dataclass(frozen=True)
class Subwords:
    """A tokenizer of the library `tokenizers`, which its own JSON describes."""

    name: str
    json: str
    separator: int | None = None

    @cached_property
    def _tokenizer(self) -> Any:
        library = require("tokenizers", "text", _PURPOSE)
        try:
            return library.Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises Exception itself
            raise MinimandError(f"{shown(self.name)} is no tokenizer that can be read ({error}).") from None

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @cached_property
    def _symbols(self) -> tuple[str, ...]:
        by_text = self._tokenizer.get_vocab(with_added_tokens=True)
        length = max([*by_text.values(), -1 if self.separator is None else self.separator]) + 1
        texts = [END_OF_TEXT if i == self.separator else "" for i in range(length)]
        for text, token in by_text.items():
            texts[token] = text
        return tuple(texts)

    def encode(self, text: str) -> np.ndarray:
        with _quiet_in_workers():
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return np.asarray(ids, dtype=np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        check_ids(self, ids)
        own = self._tokenizer.get_vocab_size(with_added_tokens=True)
        texts, run = [], []
        for token in [*map(int, ids), -1]:
            if token < 0 or token >= own:  # -1 ends the list; a separator may be unknown to the library
                texts += [self._tokenizer.decode(run, skip_special_tokens=False)] if run else []
                texts += [END_OF_TEXT] if token >= own else []
                run = []
            else:
                run.append(token)
        return "".join(texts)

    def config(self) -> dict[str, Any]:
        return {"kind": "subword", "name": self.name, "json": self.json, "separator": self.separator}


def trained(vocabulary: int, texts: Sequence[str], has_separator: bool) -> tuple[Subwords, tuple[str, ...]]:
    """Byte-pair encoding of bytes, with so many tokens, learned from texts; and notes.

    256 tokens are the bytes, the others merges; the separator comes on top. No more than a fixed number of characters
    is learned from, the first ones.
    """
    check_number("the vocabulary of bpe", vocabulary, 257, 2**20, whole=True)
    library = require("tokenizers", "text", _PURPOSE)
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    trainer = library.trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    with _quiet_in_workers():
        tokenizer.train_from_iterator(_first(texts), trainer)
    total, notes = sum(map(len, texts)), ()
    if total > _TRAINED_ON:
        notes = (f"the merges of bpe are learned from the first {_TRAINED_ON:,} of {total:,} characters.",)
    if (learned := tokenizer.get_vocab_size()) < vocabulary:
        notes += (f"the text gave {learned:,} tokens of the {vocabulary:,} of bpe.",)
    separator = learned if has_separator else None
    return Subwords(f"bpe({vocabulary})", tokenizer.to_str(), separator), notes


def from_folder(folder: Path, has_separator: bool) -> Subwords:
    """The tokenizer in a folder of transformers, or in its tokenizer.json; no code that the folder brings is run.

    Raises:
        FileNotFoundError: there is no such folder. MinimandError: no tokenizer is in it.
    """
    file = folder if folder.is_file() else folder / "tokenizer.json"
    if file.is_file():
        text = read_bytes(file, _MOST_BYTES).decode("utf-8", "replace")
    elif folder.is_dir():
        text = _converted(folder)
    else:
        raise FileNotFoundError(f"there is no folder {shown(folder)!r} with a tokenizer.")
    tokenizer = Subwords(shown(folder), text)
    known = {symbol: token for token, symbol in enumerate(tokenizer.symbols)}
    if not known:
        raise MinimandError(f"{shown(file)} has a tokenizer without tokens; expected some.")
    end = next((known[symbol] for symbol in _SEPARATORS if symbol in known), len(tokenizer.symbols))
    return Subwords(tokenizer.name, text, end) if has_separator else tokenizer


def _converted(folder: Path) -> str:
    """The JSON of a tokenizer that a folder has in older files, as transformers converts them."""
    transformers = require("transformers", "text", "to read the tokenizer of a folder without tokenizer.json")
    names = ", ".join(sorted(shown(path.name) for path in folder.iterdir())[:5]) or "nothing"
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        return tokenizer.backend_tokenizer.to_str()
    except Exception as error:  # transformers raises many kinds for a folder that is not what it expects
        line = str(error).partition("\n")[0][:200]
        raise MinimandError(
            f"the folder {shown(folder)!r} has no tokenizer that can be read: it has {names} ({type(error).__name__}: "
            f"{line}); expected tokenizer.json, or what transformers' save_pretrained writes."
        ) from None


def vocabulary_of(tokens: str) -> int | None:
    """The vocabulary of `bpe(512)`; None where `tokens` is something else."""
    match = re.fullmatch(r"bpe\(\s*(?:vocabulary\s*=\s*)?(-?\d{1,9})\s*\)", tokens.strip())
    return int(match[1]) if match else None


def _first(texts: Sequence[str]) -> Iterator[str]:
    """The texts up to the characters that merges are learned from, in pieces."""
    left = _TRAINED_ON
    for text in texts:
        for begin in range(0, min(len(text), left), 2**16):
            yield text[begin : min(begin + 2**16, left)]
        left -= len(text)
        if left <= 0:
            return


@contextmanager
def _quiet_in_workers() -> Iterator[None]:
    """The library's threads without its warning about processes that are forked later."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
