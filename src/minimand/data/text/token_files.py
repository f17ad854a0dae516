"""Token files: the parts of a text as token ids, made once, sealed, and mapped into memory from then on."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..._support.errors import MinimandError
from ..._support.files import cache_folder, write_whole
from ..._support.sealed import SealError, map_tensors, sealed_tensors
from .kept import tokenizer_of
from .tokenizers import Tokenizer, size_of

_FORMAT = 1
_KIND = "token file"
_PIECE = 2**20  # characters that are encoded at once


@dataclass(frozen=True)
class TokenPart:
    """A part of a text, to train or to test, as token ids."""

    tokens: np.ndarray
    """Token ids (n,), int16 or int32, memory-mapped where a cache can be written."""
    bounds: np.ndarray
    """Where each document begins, and the end of the last (d + 1,), as int64."""
    characters: int
    bytes: int
    """The length of the part's text in UTF-8."""


@dataclass(frozen=True)
class Tokens:
    """All parts of a text as token ids, and the tokenizer that made them."""

    parts: Mapping[str, TokenPart]
    tokenizer: Tokenizer
    key: str
    """A digest of text and tokenizer."""
    notes: tuple[str, ...] = ()


def tokens_of(
    parts: Mapping[str, Sequence[str]], tokens: str, make: Callable[[], tuple[Tokenizer, tuple[str, ...]]]
) -> Tokens:
    """The documents of each part as token ids: from the cache, or made now and kept there where that can be.

    Args:
        tokens: what the tokenizer is: it, the documents and their parts decide the file.
        make: makes the tokenizer, with notes on what a person should know.
    """
    key = _key(parts, tokens)
    try:
        path: Path | None = cache_folder("tokens") / f"{key}.safetensors"
    except OSError:
        path = None
    if path is not None:
        with suppress(SealError, OSError, MinimandError, KeyError, ValueError, TypeError):
            return _read(path, key)
    tokenizer, notes = make()
    encoded = {name: _encoded(texts, tokenizer) for name, texts in parts.items()}
    in_memory = Tokens(encoded, tokenizer, key, notes)
    if path is not None:
        with suppress(OSError):  # no room, or no right to write: the tokens stay in memory
            _write(in_memory, path)
            return _read(path, key)
    return in_memory


def _key(parts: Mapping[str, Sequence[str]], tokens: str) -> str:
    digest = hashlib.blake2b(f"{_FORMAT} {tokens}".encode("utf-8", "surrogateescape"), digest_size=16)
    for name, texts in parts.items():
        digest.update(f"\0{name} {len(texts)}".encode())
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    return digest.hexdigest()


def _encoded(texts: Sequence[str], tokenizer: Tokenizer) -> TokenPart:
    kind = np.int16 if size_of(tokenizer) <= 2**15 else np.int32
    pieces: list[np.ndarray] = []
    lengths = []
    for text in texts:
        own = [tokenizer.encode(piece).astype(kind) for piece in _pieces(text)]
        if tokenizer.separator is not None:
            own.append(np.array([tokenizer.separator], dtype=kind))
        lengths.append(sum(map(len, own)))
        pieces += own
    all_tokens = np.concatenate(pieces) if pieces else np.zeros(0, dtype=kind)
    length = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return TokenPart(
        all_tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), sum(map(len, texts)), length
    )


def _pieces(text: str) -> list[str]:
    """A text in pieces that end with lines where they can, so that encoding takes little memory."""
    pieces, begin = [], 0
    while len(text) - begin > _PIECE:
        end = text.rfind("\n", begin, begin + _PIECE) + 1
        end = end if end > begin else begin + _PIECE
        pieces.append(text[begin:end])
        begin = end
    return [*pieces, text[begin:]]


def _write(tokens: Tokens, path: Path) -> None:
    """Write the file whole; of several processes that make it at once, each writes its own first."""
    config = json.dumps(tokens.tokenizer.config()).encode()
    tensors: dict[str, Tensor] = {"tokenizer": torch.frombuffer(bytearray(config), dtype=torch.uint8)}
    counts = {}
    for name, part in tokens.parts.items():
        tensors |= {f"{name}/tokens": torch.from_numpy(part.tokens), f"{name}/bounds": torch.from_numpy(part.bounds)}
        counts[name] = [part.characters, part.bytes]
    metadata = {"counts": json.dumps(counts), "notes": json.dumps(tokens.notes)}
    own = path.with_suffix(f".{os.getpid()}")
    write_whole(own, *sealed_tensors(_KIND, _FORMAT, tensors, metadata))
    os.replace(own, path)


def _read(path: Path, key: str) -> Tokens:
    arrays, metadata = map_tensors(path, _KIND, _FORMAT)
    parts = {
        name: TokenPart(arrays[f"{name}/tokens"], np.array(arrays[f"{name}/bounds"]), *map(int, counts))
        for name, counts in json.loads(metadata["counts"]).items()
    }
    tokenizer = tokenizer_of(json.loads(arrays["tokenizer"].tobytes()))
    return Tokens(parts, tokenizer, key, tuple(json.loads(metadata["notes"])))
