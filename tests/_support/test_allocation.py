import os
import subprocess
import sys

import pytest

_FAULTS = """
import resource
from minimand._support.allocation import keep_freed_memory
is_kept = keep_freed_memory()
size = 2**26
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"1" * size
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(is_kept, min(faults() for _ in range(9)))
"""


def _faults(**settings: str) -> tuple[bool, int]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    process = subprocess.run([sys.executable, "-c", _FAULTS], check=True, capture_output=True, env={**own, **settings})
    is_kept, faults = process.stdout.split()
    return is_kept == b"True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told to keep memory")
def test_a_freed_tensor_leaves_its_memory_to_the_next_one_unless_the_environment_decides() -> None:
    is_kept, faults = _faults()
    if not is_kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 10
    is_kept, faults = _faults(MALLOC_ARENA_MAX="2")
    assert not is_kept
    assert faults >= 2**26 / 2**21  # one for each page, were all of them huge
