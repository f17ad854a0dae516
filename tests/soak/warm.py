"""Commands of minimand in forked processes, which need not import anything again."""

import importlib
import io
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from soak.faults import Fault, arm, operations

_SMALL = ("--data", "digits", "--model", "mlp(depth=2,width=8)", "--epochs", "1", "--quiet")
WARMING = {
    "train": ("train", *_SMALL, "--run", "a"),
    "search": ("search", *_SMALL, "--trials", "1", "--seeds", "1", "--run", "b"),
    "study": ("study", "run", "rings", "--scale", "smoke", "--run", "c", "--quiet"),
}
"""Commands that import what all others do."""
KILLED = -signal.SIGKILL
FAULTY = 70
"""The exit status of a command that ended in an exception which is not meant."""


@dataclass(frozen=True)
class Outcome:
    """The end of a command."""

    status: int
    """The exit status; less than 0 the signal that ended it."""
    out: str
    err: str
    operations: int
    """The file operations; 0 if it was killed."""
    seconds: float

    @property
    def is_clear(self) -> bool:
        """Whether it ended well, or with the exit status 2 and one line."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return self.status == 0 or (self.status == 2 and sum(x.startswith("minimand: ") for x in lines) == 1)


def warm_up(commands: Iterable[str] = WARMING) -> None:
    """Import everything that commands import while they run, and load the data, before anything is forked."""
    import minimand as mm

    mm.load_data("digits")
    with tempfile.TemporaryDirectory() as folder:
        for command in {"train", *commands} & WARMING.keys():
            for name in call(partial(_imported_by, WARMING[command]), Path(folder)):
                with suppress(Exception):  # a module that is made while another is imported
                    importlib.import_module(name)
    _draw_nothing()


def _draw_nothing() -> None:
    """Leave the figures of reports empty: drawing takes most of the time of a small training, and writes no file."""
    with suppress(ImportError):
        from matplotlib.figure import Figure

        setattr(Figure, "savefig", _save_empty)  # noqa: B010 - the method's own signature is longer


def _save_empty(figure: Any, file: Any, **options: Any) -> None:
    if isinstance(file, str | Path):
        Path(file).write_text("<svg/>")
    else:
        file.write("<svg/>" if isinstance(file, io.TextIOBase) else b"<svg/>")


def _imported_by(words: Sequence[str]) -> list[str]:
    from minimand.cli import main

    with suppress(SystemExit):
        main(words)
    return [name for name in sys.modules if name != "__main__"]


class Child:
    """A job in a forked process, whose output is caught; `folder` is where it works and where faults happen."""

    def __init__(self, job: Callable[[], Any], folder: Path, at: int = 0, fault: Fault = Fault.NONE) -> None:
        read, write = os.pipe()
        self.files = [os.memfd_create(name) for name in ("out", "err")]
        self.began, self._read = time.monotonic(), read
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            status, result = FAULTY, None
            try:
                for number, file in zip((1, 2), self.files, strict=True):
                    os.dup2(file, number)
                os.chdir(folder)
                arm(folder, at, fault)
                result, status = job(), 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                count = operations()
                arm(Path("/nowhere"), 0, Fault.NONE)
                sys.stdout.flush()
                sys.stderr.flush()
                with os.fdopen(write, "w") as pipe:
                    json.dump([count, result], pipe)
                os._exit(status)
        os.close(write)

    def wait(self, limit: float = 120.0) -> tuple[Outcome, Any]:
        """The end of the job and what it gave; a job over its limit of seconds is killed, with the status -14."""
        text, is_late = b"", False
        while True:
            left = self.began + limit - time.monotonic()
            if not is_late and not select.select([self._read], [], [], max(left, 0))[0]:
                is_late = True
                os.kill(self.pid, signal.SIGKILL)
            if not (part := os.read(self._read, 65536)):
                break
            text += part
        os.close(self._read)
        _, status = os.waitpid(self.pid, 0)
        code = -signal.SIGALRM if is_late else os.waitstatus_to_exitcode(status)
        count, result = json.loads(text) if text else (0, None)
        out, err = (os.pread(file, 1 << 24, 0).decode(errors="replace") for file in self.files)
        for file in self.files:
            os.close(file)
        return Outcome(code, out, err, count, time.monotonic() - self.began), result


def start(words: Sequence[str], folder: Path, at: int = 0, fault: Fault = Fault.NONE) -> Child:
    """A command of minimand, begun in a folder."""
    from minimand.cli import main

    return Child(lambda: main(words), folder, at, fault)


def run(words: Sequence[str], folder: Path, at: int = 0, fault: Fault = Fault.NONE, limit: float = 120.0) -> Outcome:
    """The end of a command of minimand that runs in a folder."""
    return start(words, folder, at, fault).wait(limit)[0]


def call(job: Callable[[], Any], folder: Path) -> Any:
    """What a function gives in a process of its own, as JSON; raises RuntimeError with its output where it fails."""
    outcome, result = Child(job, folder).wait()
    if outcome.status:
        raise RuntimeError(outcome.err)
    return result
