"""Code in fresh interpreters that have imported torch and what else takes seconds, but nothing of minimand."""

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from functools import cache
from pathlib import Path

PRELOADED = ("torch._dynamo", "sklearn.datasets", "scipy.optimize", "sympy", "rich.progress", "tyro", "yaml", "jinja2")
DRAWING = ("matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg")


def run_python(code: str, folder: Path, *paths: Path | str) -> str:
    """What code prints in an interpreter in which warnings are errors, in a folder, with more places to import from."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    print(json.dumps([code, str(folder), [*map(str, paths)]]), file=server.stdin, flush=True)
    status, out, error = json.loads(server.stdout.readline())
    assert status == 0, error
    return out


@cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    atexit.register(server.wait)
    atexit.register(server.kill)
    return server


def _serve() -> None:
    for name in (*PRELOADED, *DRAWING):
        try:
            importlib.import_module(name)
        except ImportError:  # where minimand is installed alone
            continue
    assert not any(name.startswith("minimand") for name in sys.modules)
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
            if (child := os.fork()) == 0:
                code, folder, paths = json.loads(line)
                _run(code, folder, paths, out.fileno(), error.fileno())
            _, status = os.waitpid(child, 0)
            out.seek(0)
            error.seek(0)
            print(json.dumps([os.waitstatus_to_exitcode(status), out.read(), error.read()]), flush=True)


def _run(code: str, folder: str, paths: list[str], out: int, error: int) -> None:
    """Run code in this process, which ends with it."""
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(error, 2)
        os.chdir(folder)
        sys.path[:1] = paths  # in the place of this file's folder
        sys.argv = ["-c"]
        warnings.simplefilter("error")
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
