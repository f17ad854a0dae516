"""Tokenizers: from text to the numbers that a language model reads, and back; each as plain values that a run keeps."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..._support.errors import MinimandError

END_OF_TEXT = "<|endoftext|>"
"""How the separator of documents is shown."""


class Tokenizer(Protocol):
    """What makes token ids of text: every token has a number from 0 to `size - 1`."""

    @property
    def name(self) -> str:
        """The name of the tokenizer, as in `load_data(..., tokens=name)`."""
        ...

    @property
    def separator(self) -> int | None:
        """The token at the end of each of several documents; None where a text is one document."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """What each token stands for, as it is shown."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """The token ids (n,) of a text, as int64; raises MinimandError for a symbol that has none."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, the separator shown as `<|endoftext|>`."""
        ...

    def config(self) -> dict[str, Any]:
        """Plain values from which `tokenizer_of` makes the same tokenizer."""
        ...


def size_of(tokenizer: Tokenizer) -> int:
    """The number of tokens, the separator included: the length of a language model's output."""
    return len(tokenizer.symbols)


def digest_of(tokenizer: Tokenizer) -> str:
    """A short text that only tokenizers which give the same ids have in common."""
    return hashlib.blake2b(json.dumps(tokenizer.config(), sort_keys=True).encode(), digest_size=8).hexdigest()


def check_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> None:
    """Raise MinimandError unless all token ids are those of a tokenizer."""
    size = size_of(tokenizer)
    for token in ids:
        if not 0 <= token < size:
            raise MinimandError(f"the token id {token} is not one of {tokenizer.name}; expected 0 to {size - 1}.")


@dataclass(frozen=True)
class Characters:
    """A token for each character of an alphabet."""

    alphabet: str
    """Every character that has a token, in the order of the tokens."""
    has_separator: bool = False
    name: str = "character"

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @cached_property
    def _symbols(self) -> tuple[str, ...]:
        return (*self.alphabet, END_OF_TEXT) if self.has_separator else tuple(self.alphabet)

    @property
    def separator(self) -> int | None:
        return len(self.alphabet) if self.has_separator else None

    def encode(self, text: str) -> np.ndarray:
        points = _code_points(text)
        ids = self._table[np.minimum(points, len(self._table) - 1)]
        if len(ids) and ids.min() < 0:
            place = int(np.argmin(ids >= 0))
            known = self.alphabet if len(self.alphabet) <= 100 else f"{self.alphabet[:100]} ..."
            raise MinimandError(
                f"the text has the character {text[place]!r}, which the {len(self.alphabet)} known ones do not have: "
                f"{known!r}."
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        check_ids(self, ids)
        return "".join(self.symbols[token] for token in ids)

    def config(self) -> dict[str, Any]:
        return {"kind": "character", "alphabet": self.alphabet, "separator": self.has_separator}

    @cached_property
    def _table(self) -> np.ndarray:
        """The token of each code point, -1 where it has none; the last entry stands for all above the highest."""
        points = _code_points(self.alphabet)
        table = np.full(int(points.max(initial=0)) + 2, -1, dtype=np.int64)
        table[points] = np.arange(len(points))
        return table


@dataclass(frozen=True)
class Bytes:
    """A token for each byte of the text in UTF-8: every text can be read."""

    has_separator: bool = False
    name: str = "byte"

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @cached_property
    def _symbols(self) -> tuple[str, ...]:
        shown = tuple(chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in range(256))
        return (*shown, END_OF_TEXT) if self.has_separator else shown

    @property
    def separator(self) -> int | None:
        return 256 if self.has_separator else None

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8", "surrogateescape"), dtype=np.uint8).astype(np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        check_ids(self, ids)
        end = END_OF_TEXT.encode()
        return b"".join(end if token == 256 else bytes([token]) for token in ids).decode("utf-8", "replace")

    def config(self) -> dict[str, Any]:
        return {"kind": "byte", "separator": self.has_separator}


def alphabet_of(texts: Sequence[str]) -> str:
    """Every character of some texts once, in the order of their numbers."""
    return "".join(sorted(set().union(*map(set, texts))))


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
