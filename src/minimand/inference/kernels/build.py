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
        kernels = ctypes.CDLL(str(_compiled()))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:  # a RuntimeError where there is no home
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
    """The folder of the compiled kernels, inside that of torch's extensions."""
    extensions = os.environ.get("TORCH_EXTENSIONS_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return (Path(extensions) if extensions else home / "torch_extensions") / "minimand"
