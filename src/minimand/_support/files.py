"""Files that are written whole or not at all, and folders that one process at a time has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # where there is none, nothing is locked
    fcntl = None

_held: set[int] = set()
if hasattr(os, "register_at_fork"):
    # A worker that outlives a killed process must not keep its lock.
    os.register_at_fork(after_in_child=lambda: [os.close(descriptor) for descriptor in _held])


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the folder, which exists, for this process; gives whether it was free. The end of the process lets go."""
    if fcntl is None:
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY)
    _held.add(descriptor)
    try:
        yield _try_to_lock(descriptor)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _try_to_lock(descriptor: int) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(path.suffix + ".part")
    try:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
