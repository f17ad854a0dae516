"""The King James Bible, as the Debian package bible-kjv prints it."""

import re
import shutil
import subprocess
from pathlib import Path

from ..._support.errors import MinimandError
from ..data import Data
from ..registry import data_set
from ..text.documents import read_text
from ..text.text import make_text

_ALL = "gen1:1-rev22:21"
_REFERENCE = re.compile(r"^\S*\d+:\d+ ", re.MULTILINE)
_SECONDS = 60


@data_set("bible")
def bible(
    data_folder: str | None = None,
    tokens: str = "character",
    context: int = 64,
    windows: int | None = None,
    test_windows: int | None = None,
) -> Data:
    """The King James Bible, 4,137,850 characters, 63 different ones, a verse a line; the last tenth tests.

    The text is what the command `bible` of Debian's package bible-kjv prints, without the references before each verse;
    or bible.txt in `data_folder`, as `bible -f gen1:1-rev22:21 > bible.txt` writes it.
    """
    if data_folder is not None:
        file = Path(data_folder) / "bible.txt"
        if not file.is_file():
            raise FileNotFoundError(f"no bible.txt in {data_folder}; `bible -f {_ALL} > bible.txt` writes it.")
        printed, source = read_text(file), data_folder
    else:
        printed, source = _printed(), "the command bible"
    text = _REFERENCE.sub("", printed)
    options = {"tokens": tokens, "context": context, "windows": windows, "test_windows": test_windows}
    return make_text("bible", source, {"": [text]}, split="position", **options)


def _printed() -> str:
    command = shutil.which("bible")
    if command is None:
        raise FileNotFoundError(
            "there is no command `bible`; `apt-get install bible-kjv` brings it, or data_folder= names a folder with "
            "bible.txt."
        )
    try:
        process = subprocess.run([command, "-f", _ALL], capture_output=True, text=True, check=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise MinimandError(f"{command} -f {_ALL} does not print the Bible ({error}).") from None
    return process.stdout
