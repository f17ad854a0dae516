"""Tiny Shakespeare: a million characters of plays, the smallest benchmark of language models (Karpathy, 2015)."""

from pathlib import Path

from ..data import Data
from ..registry import data_set
from ..text.documents import documents_of_hub, read_text
from ..text.text import make_text

_FILE = "input.txt"
_HUB = "karpathy/tiny_shakespeare"
_CHARACTERS = 1_115_394


@data_set("tinyshakespeare", "karpathy2015rnn")
def tinyshakespeare(
    data_folder: str | None = None,
    tokens: str = "character",
    context: int = 64,
    windows: int | None = None,
    test_windows: int | None = None,
) -> Data:
    """1,115,394 characters of Shakespeare's plays, 65 different ones; the last tenth tests.

    They are read from input.txt in `data_folder`; by default from the hub, whose parts are put together again.
    """
    if data_folder is not None:
        file = Path(data_folder) / _FILE
        if not file.is_file():
            raise FileNotFoundError(f"no {_FILE} in {data_folder}; expected the text of Tiny Shakespeare.")
        text, source = read_text(file), data_folder
    else:
        parts, _ = documents_of_hub(_HUB, "text")
        text = "".join(text for part in ("", "train", "validation", "test") for text in parts.get(part, []))
        source = f"the hub ({_HUB})"
    notes = ()
    if len(text) != _CHARACTERS:
        notes = (f"the text has {len(text):,} characters; that of published numbers has {_CHARACTERS:,}.",)
    options = {"tokens": tokens, "context": context, "windows": windows, "test_windows": test_windows}
    return make_text("tinyshakespeare", source, {"": [text]}, split="position", notes=notes, **options)
