"""A process in which file operations go wrong on purpose: `faults.c`, built, preloaded and armed."""

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

HERE = Path(__file__).parent


class Fault(IntEnum):
    """What happens at the n-th file operation; the numbers are those of faults.c."""

    NONE = 0
    KILL_BEFORE = 1
    KILL_AFTER = 2
    """The process ends after the operation; a write has written half."""
    DISK_FULL = 3
    """The operation and all later ones that need space fail."""


def compiler() -> str | None:
    """The C compiler of this machine; None where there is none or no preloading."""
    return shutil.which("cc") if sys.platform == "linux" else None


def run_preloaded(arguments: Sequence[str]) -> int:
    """Run a Python script of this folder with faults.c preloaded and one thread; gives its exit status."""
    command = compiler()
    assert command is not None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "faults.so"
        source, target = shlex.quote(str(HERE / "faults.c")), shlex.quote(str(library))
        subprocess.run(f"{command} -O1 -shared -fPIC -o {target} {source} -ldl", shell=True, check=True)
        variables = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "PYTHONPATH": _path()}
        return subprocess.run([sys.executable, *arguments], env=variables).returncode


def is_preloaded() -> bool:
    """Whether this process has faults.c."""
    return os.environ.get("LD_PRELOAD", "").endswith("faults.so")


def _path() -> str:
    """The folders that this process imports from."""
    return os.pathsep.join(dict.fromkeys(path for path in sys.path if path))


@functools.cache
def _library() -> ctypes.CDLL | None:
    if not is_preloaded():
        return None
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
    library.faults_count.restype = ctypes.c_long
    return library


def arm(folder: Path, number: int, fault: Fault) -> None:
    """Let the `number`-th file operation below a folder from now on go wrong in this process, if it is preloaded."""
    if library := _library():
        library.faults_arm(os.fsencode(folder), number, fault)


def operations() -> int:
    """The file operations below the folder since `arm`; 0 in a process without faults.c."""
    library = _library()
    return int(library.faults_count()) if library else 0
