"""The sources of the running Python's standard library: a text that is on every machine."""

import platform
import sys
import sysconfig
from pathlib import Path

from ..._support.errors import MinimandError
from ..data import Data
from ..registry import data_set
from ..text.documents import read_text
from ..text.text import make_text


@data_set("python_stdlib")
def python_stdlib(
    tokens: str = "character",
    context: int = 64,
    windows: int | None = 4096,
    test_windows: int | None = 512,
) -> Data:
    """The modules of the running Python's standard library, about 5 MB, a document each; a tenth of them test.

    Those in packages are left out. The text is another one in each version of Python, whose name and bytes the source
    says, and no published number is about it. An epoch has 4,096 windows and 512 are judged, so that a first look takes
    a minute; with None all are.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in folder.glob("*.py") if path.stem in sys.stdlib_module_names)
    if not paths:
        raise MinimandError(f"the standard library in {folder} has no sources; name a text file or a folder of them.")
    texts = [read_text(path) for path in paths]
    size = sum(len(text.encode()) for text in texts)
    source = f"Python {platform.python_version()}, {size:,} bytes"
    options = {"tokens": tokens, "context": context, "windows": windows, "test_windows": test_windows}
    return make_text("python_stdlib", source, {"": texts}, split="documents", **options)
