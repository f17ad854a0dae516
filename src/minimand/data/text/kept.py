"""Tokenizers as plain values, and in the folder of a run, so that what it trained can be asked and judged later."""

import json
from pathlib import Path
from typing import Any

from ..._support.errors import MinimandError, WrongTypeError
from ..._support.files import write_whole
from ..._support.sealed import read_sealed_text, sealed_json
from .subwords import Subwords
from .tokenizers import Bytes, Characters, Tokenizer

TOKENIZER_FILE = "tokenizer.json"
"""The name of the file in the folder of a run."""
_LIMIT = 2**27


def keep_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer into a folder, sealed; one that is there and the same stays."""
    text = sealed_json(json.dumps(tokenizer.config()))
    path = folder / TOKENIZER_FILE
    if not path.is_file() or path.is_symlink() or path.read_bytes() != text.encode():
        write_whole(path, text)


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a run keeps.

    Raises:
        FileNotFoundError: there is none. SealError: it is damaged. MinimandError: it is none of this version.
    """
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise FileNotFoundError(f"there is no {TOKENIZER_FILE} in {folder}; go on with the run to write it again.")
    config = json.loads(read_sealed_text(path, _LIMIT))
    if not isinstance(config, dict):
        raise MinimandError(f"{path} holds no tokenizer.")
    config.pop("checksum", None)
    return tokenizer_of(config)


def tokenizer_of(config: Any) -> Tokenizer:
    """The tokenizer that `config` of another describes.

    Raises:
        MinimandError: values that are none of a tokenizer. MissingPackageError: its package is not installed.
    """
    match config:
        case {"kind": "character", "alphabet": str(alphabet), "separator": bool(separator)} if alphabet:
            return Characters(alphabet, separator)
        case {"kind": "byte", "separator": bool(separator)}:
            return Bytes(separator)
        case {
            "kind": "subword",
            "name": str(name),
            "json": str(text),
            "separator": int(separator) | (None as separator),
        }:
            return Subwords(name, text, separator)
    kind = config.get("kind") if isinstance(config, dict) else type(config).__name__
    raise WrongTypeError(f"{kind!r} describes no tokenizer; expected character, byte or subword with its settings.")
