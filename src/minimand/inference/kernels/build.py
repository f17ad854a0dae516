"""The kernels in `source`, compiled once for this machine, in a folder that nobody else can write to."""

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

from ..._support.errors import MinimandError
from ..._support.files import write_whole

_SOURCE = Path(__file__).with_name("source")
_KINDS = {"i": ctypes.c_int, "l": ctypes.c_long, "f": ctypes.c_float, "p": ctypes.c_void_p, "b": ctypes.c_char_p}
_ARGUMENTS = {  # the types of each function's arguments, a letter of _KINDS each
    "supported": "i",
    "pack_floats": "ippipppi",
    "pack_integers": "ippipppi",
    "unpack": "ipllffpi",
    "pool": "pppppi",
    "convolve": "b",
    "tables": "",
}
_FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC")


@cache
def library() -> ctypes.CDLL | None:
    """The kernels; None, with a warning, where they cannot be compiled."""
    try:
        kernels = ctypes.CDLL(str(_compiled()))
    # A RuntimeError is Path.home()'s, where a user has no home.
    except (MinimandError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        message = str(error)
        if isinstance(error, subprocess.CalledProcessError):
            message = error.stderr or f"{error.cmd[0]} ended with status {error.returncode}"
        warnings.warn(
            f"the kernels for packed layers could not be compiled ({message.strip()[:300]}), so torch's int8 product "
            "does their work, correctly and slower. They need a C++ compiler, c++ on the path or the one that the "
            "variable CXX names, and a folder to stay in, that of torch's extensions or the one that the variable "
            "TORCH_EXTENSIONS_DIR names.",
            stacklevel=2,
        )
        return None
    for name, kinds in _ARGUMENTS.items():
        function = getattr(kernels, f"minimand_{name}")
        function.argtypes, function.restype = [_KINDS[kind] for kind in kinds], None
    kernels.minimand_supported.restype = kernels.minimand_tables.restype = ctypes.c_int
    return kernels


def _compiled() -> Path:
    compiler = _compiler()
    # The OpenMP of gcc is torch's own on Linux; elsewhere compilers have none, or another.
    flags = (*_FLAGS, "-fopenmp") if sys.platform == "linux" else _FLAGS
    sources = sorted(_SOURCE.iterdir())
    built_from = "".join([*compiler, *flags, platform.machine(), *(path.read_text() for path in sources)])
    folder = _private(_cache())
    path = folder / f"kernels-{hashlib.sha256(built_from.encode()).hexdigest()[:16]}.so"
    checksum = path.with_suffix(".sum")
    if not _is_whole(path, checksum):
        with tempfile.TemporaryDirectory(dir=folder) as building:  # whoever is first, the file is whole
            part = Path(building) / path.name
            units = [str(s) for s in sources if s.suffix == ".cpp"]
            subprocess.run([*compiler, *flags, *units, "-o", str(part)], check=True, capture_output=True, text=True)
            library_digest = _digest(part)
            part.replace(path)
        write_whole(checksum, library_digest)
    return path


def _compiler() -> list[str]:
    words = os.environ.get("CXX", "")
    try:
        return shlex.split(words) or ["c++"]
    except ValueError as error:
        raise MinimandError(f"CXX is {words!r}, which is no command: {str(error).lower()}") from None


def _is_whole(library_path: Path, checksum: Path) -> bool:
    """Whether a library is the one that was compiled: one cut short would end the process, not raise an error."""
    try:
        return checksum.read_text() == _digest(library_path)
    except (OSError, UnicodeDecodeError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _private(folder: Path) -> Path:
    """The folder, made if need be, and emptied if others could have put a library there.

    Raises MinimandError where it belongs to somebody else, whose libraries are not run.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if not hasattr(os, "geteuid"):
        return folder
    if status.st_uid != os.geteuid():
        raise MinimandError(f"{folder} belongs to user {status.st_uid}, and this is user {os.geteuid()}")
    if status.st_mode & 0o022:
        folder.chmod(0o700)
        for path in folder.glob("kernels-*"):
            path.unlink()
    return folder


def _cache() -> Path:
    """The folder of the compiled kernels, inside that of torch's extensions; MinimandError where it is no full path."""
    extensions = os.environ.get("TORCH_EXTENSIONS_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = (Path(extensions) if extensions else home / "torch_extensions") / "minimand"
    if not folder.is_absolute():
        raise MinimandError(f"the folder {folder} depends on the current one; a full path is expected")
    return folder
