"""Files that are written whole or not at all, and folders that one process holds at a time."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import MinimandError

try:
    import fcntl
except ImportError:  # a system without fcntl, such as Windows, locks nothing
    fcntl = None

_held_descriptors: set[int] = set()
if hasattr(os, "register_at_fork"):
    # A worker that outlives a killed process must not keep its lock.
    os.register_at_fork(after_in_child=lambda: [os.close(descriptor) for descriptor in _held_descriptors])


def write_whole(path: Path, *content: str | bytes | memoryview) -> None:
    """Write a file whole or not at all, whatever is killed or loses power; raises OSError where it cannot be written.

    A link in its place is replaced, not followed.
    """
    part = path.with_suffix(path.suffix + ".part")
    try:
        part.unlink(missing_ok=True)  # left by a killed process, or a link that must not be followed
        with part.open("xb") as file:
            for piece in content:
                file.write(piece.encode() if isinstance(piece, str) else piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def cache_folder(name: str) -> Path:
    """A folder of minimand's in the user's cache, made if need be; raises OSError where it cannot be."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # a user without a home
        raise OSError(str(error)) from None
    folder = home / "minimand" / name
    if not folder.is_absolute():
        raise OSError(f"the folder {folder} depends on the current one; a full path is expected")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_holds(folder: Path, kind: str, names: Sequence[str]) -> None:
    """Raise MinimandError for a folder that has files, but none of the names by which one of a kind is known."""
    has_files = folder.is_dir() and any(path.suffix != ".part" for path in folder.iterdir())
    if has_files and not any((folder / name).exists() for name in names):
        raise MinimandError(f"{folder} holds files but no {kind}; name an empty or a new folder.")


def append_line(path: Path, line: str) -> None:
    """Append a line to a file that is made if need be; raises OSError where a link stands in its place."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o666), "ab") as file:
        file.write(f"{line}\n".encode())


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold an existing folder for this process, and give whether it was free; the end of the process lets go."""
    if fcntl is None:
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY)
    _held_descriptors.add(descriptor)
    is_free = True
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_free = False
        yield is_free
    finally:
        _held_descriptors.discard(descriptor)
        os.close(descriptor)
