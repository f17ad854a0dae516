"""The tokenizer in the folder of a run, so that what the run trained can be asked and judged later."""

import json
from pathlib import Path

from ..._support.errors import MinimandError
from ..._support.files import write_whole
from ..._support.sealed import read_sealed_text, sealed_json
from .tokenizers import Tokenizer, tokenizer_of

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
