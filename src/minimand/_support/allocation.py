"""How the C library of a process that trains holds memory between two steps."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # the numbers of two parameters in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones, as torch does on GPUs; whether it does.

    By default glibc gives the memory of large tensors back to the system at once, which clears each page anew when
    the next step asks for it. Nothing is changed where the C library is another one, or where the environment has a
    setting of glibc's allocator (MALLOC_MMAP_MAX_=65536 is its default).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    return set_parameter is not None and bool(set_parameter(_MMAP_MAX, 0) and set_parameter(_TRIM_THRESHOLD, -1))
