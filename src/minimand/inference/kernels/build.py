"""The kernels in `source`, compiled once for this machine."""

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

_SOURCE = Path(__file__).with_name("source")
_KINDS = {"i": ctypes.c_int, "l": ctypes.c_long, "f": ctypes.c_float, "p": ctypes.c_void_p, "b": ctypes.c_char_p}
_ARGUMENTS = {  # of the functions, a letter for each
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
        found = ctypes.CDLL(str(_compiled()))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:  # a RuntimeError where there is no home
        failed = isinstance(error, subprocess.CalledProcessError)
        said = error.stderr or f"{error.cmd[0]} ended with status {error.returncode}" if failed else str(error)
        warnings.warn(
            f"the kernels for packed layers could not be compiled ({said.strip()[:300]}), so torch's int8 product "
            "does their work, correctly and slower. They need a C++ compiler, c++ on the path or the one that the "
            "variable CXX names, and a folder to stay in, that of torch's extensions or the one that the variable "
            "TORCH_EXTENSIONS_DIR names.",
            stacklevel=2,
        )
        return None
    for name, kinds in _ARGUMENTS.items():
        function = getattr(found, f"minimand_{name}")
        function.argtypes, function.restype = [_KINDS[kind] for kind in kinds], None
    found.minimand_supported.restype = found.minimand_tables.restype = ctypes.c_int
    return found


def _compiled() -> Path:
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    # The OpenMP of gcc is torch's own on Linux; elsewhere compilers have none, or another.
    flags = (*_FLAGS, "-fopenmp") if sys.platform == "linux" else _FLAGS
    sources = sorted(_SOURCE.iterdir())
    built_from = "".join([*compiler, *flags, platform.machine(), *(path.read_text() for path in sources)])
    folder = _cache()
    path = folder / f"kernels-{hashlib.sha256(built_from.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as building:  # whoever is first, the file is whole
            part = Path(building) / path.name
            units = [str(s) for s in sources if s.suffix == ".cpp"]
            subprocess.run([*compiler, *flags, *units, "-o", str(part)], check=True, capture_output=True, text=True)
            part.replace(path)
    return path


def _cache() -> Path:
    """A folder in that of torch's extensions."""
    given = os.environ.get("TORCH_EXTENSIONS_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return (Path(given) if given else home / "torch_extensions") / "minimand"
