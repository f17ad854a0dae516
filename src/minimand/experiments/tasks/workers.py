"""Processes that do the tasks of a queue: what is sent to them, what they answer, and those of this machine."""

import hashlib
import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import torch
from rich.console import Console

from ..._support.allocation import keep_freed_memory
from ..._support.errors import MinimandError, MisuseError
from ..._support.files import write_whole
from ...training.distributed.processes import code_and_versions
from ...training.hooks.watching.progress import ShowProgress
from ...training.runs.run import RunInUseError
from .work import Records, Work

_START = "from minimand.experiments.tasks.workers import serve; serve()"
_PATIENCE = 60.0  # seconds in which a worker that is lost but not dead may let go of a run
_OWN_FILES = "minimand_user_"  # the modules of algorithms and models that were named by their files


class LostWorkerError(MisuseError):
    """A worker that ended without an answer."""


@dataclass(frozen=True)
class Package:
    """The file with a work and its tasks, which all workers have to see, and its checksum."""

    path: str
    checksum: str


@contextmanager
def packed(work: Work[Any], tasks: Sequence[Any], records: Records, progress: bool) -> Iterator[Package]:
    """A file with a work and its tasks, beside the records; it is taken away at the end.

    Raises:
        MinimandError: something that cannot be sent to another process.
    """
    import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith(_OWN_FILES):  # by value, as workers cannot import a file of the user's
            cloudpickle.register_pickle_by_value(module)
    folder = records.folder.absolute()
    try:
        inner = cloudpickle.dumps((work, list(tasks), folder, progress, _modes()))
    except (TypeError, pickle.PicklingError) as error:
        raise MinimandError(
            f"what is to be done cannot be sent to other processes ({error}); expected algorithms and data that can be "
            "pickled, or jobs=1."
        ) from None
    content = pickle.dumps((code_and_versions(), inner))
    path = folder / "tasks.pickle"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    try:
        yield Package(str(path), _checksum(content))
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # the folder still has records
            folder.rmdir()


def perform(path: str, checksum: str, number: int) -> dict[str, str]:
    """Do a task in this process and write its record: whether it is done, failed or was interrupted, and why."""
    try:
        work, tasks, folder, progress = _unpacked(path, checksum)
        work.check()
    except MinimandError as error:
        return {"outcome": "unusable", "why": str(error)}
    task = tasks[number]
    try:
        record = _patiently(work, task, progress)
        Records(folder).write(work.key(task), record)
    except KeyboardInterrupt:
        return {"outcome": "interrupted", "why": ""}
    except (MinimandError, OSError) as error:
        return {"outcome": "failed", "why": str(error)}
    except Exception as error:
        print(f"{work.label(task)}:", file=sys.stderr)
        traceback.print_exc()
        return {"outcome": "failed", "why": f"{type(error).__name__}: {error}"}
    return {"outcome": "done", "why": ""}


def _patiently(work: Work[Any], task: Any, progress: bool) -> dict[str, Any]:
    """The record of a task, whose run a worker that was given up may still hold for a while."""

    def callbacks(label: str) -> tuple[ShowProgress]:
        return (ShowProgress(Console(file=sys.stderr, force_terminal=False), label, every_epoch=progress),)

    began = time.monotonic()
    while True:
        try:
            return work.do(task, callbacks)
        except RunInUseError:
            if time.monotonic() - began > _PATIENCE:
                raise
            time.sleep(1)


@lru_cache(maxsize=1)
def _unpacked(path: str, checksum: str) -> tuple[Work[Any], list[Any], Path, bool]:
    """What a package holds; raises MinimandError where this machine does not see it or has other code."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        content = b""
    if _checksum(content) != checksum:
        raise MinimandError(
            f"{Path(path).parent} is not seen by a worker on {platform.node()}, or is another folder there; expected "
            "one on a file system that all machines share (--run)."
        )
    versions, inner = pickle.loads(content)
    here = code_and_versions()
    if differing := [f"{name} is {here[name]}, not {version}" for name, version in versions.items()
                     if here[name] != version]:  # fmt: skip
        raise MinimandError(
            f"a worker on {platform.node()} has other code: {'; '.join(differing)}. Expected the same everywhere."
        )
    try:
        work, tasks, folder, progress, modes = pickle.loads(inner)
    except (ImportError, AttributeError) as error:
        raise MinimandError(
            f"a worker on {platform.node()} cannot load what is to be done ({error}); expected code that it can import."
        ) from None
    keep_freed_memory()
    torch.set_default_dtype(modes["dtype"])
    torch.set_float32_matmul_precision(modes["matmul"])
    torch.use_deterministic_algorithms(modes["deterministic"], warn_only=modes["warn"])
    return work, tasks, folder, progress


def _modes() -> dict[str, Any]:
    """The modes of torch that decide results, which a new process does not have by itself."""
    return {
        "dtype": torch.get_default_dtype(),
        "matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn": torch.is_deterministic_algorithms_warn_only_enabled(),
    }


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class LocalWorkers:
    """Processes of this machine, which share its cores: each has an equal number of threads, and at least one."""

    def __init__(self, package: Package, jobs: int) -> None:
        self.package, self.room = package, jobs
        threads = max(1, torch.get_num_threads() // jobs)
        self._free: SimpleQueue[_Process] = SimpleQueue()
        self._processes = [_Process(number, threads) for number in range(jobs)]
        for process in self._processes:
            self._free.put(process)
        self._threads = ThreadPoolExecutor(jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.end()

    def submit(self, number: int) -> "Future[Mapping[str, str]]":
        """Do the task of a number in a process that has nothing to do."""
        return self._threads.submit(self._perform, number)

    def _perform(self, number: int) -> Mapping[str, str]:
        process = self._free.get()
        try:
            return process.perform({**asdict(self.package), "number": number})
        finally:
            self._free.put(process)

    def interrupt(self) -> None:
        """Ask all processes to write their checkpoints and stop."""
        for process in self._processes:
            process.terminate()

    def kill(self) -> None:
        """End all worker processes at once, whatever they do."""
        for process in self._processes:
            process.kill()


class _Process:
    """A process that does one task after another; after its death a new one takes its place."""

    def __init__(self, number: int, threads: int) -> None:
        self._number, self._threads = number, threads
        self._process: subprocess.Popen[str] | None = None
        self._is_killed = False

    def perform(self, message: Mapping[str, Any]) -> Mapping[str, str]:
        """Do a task; raises LostWorkerError where the process ends in the middle."""
        process = self._process = self._process or self._start()
        if self._is_killed:
            process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(f"{json.dumps(message)}\n")
            process.stdin.flush()
        answer = process.stdout.readline()
        if answer:
            return json.loads(answer)
        status = self.end()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
        raise LostWorkerError(how)

    def _start(self) -> "subprocess.Popen[str]":
        threads = {f"{library}_NUM_THREADS": str(self._threads) for library in ("OMP", "MKL", "OPENBLAS")}
        path = os.pathsep.join(filter(None, sys.path))
        return subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads, "PYTHONPATH": path, _NUMBER: str(self._number)},
            start_new_session=True,  # a Ctrl-C of the terminal comes through the one that waits for it
        )

    def terminate(self) -> None:
        """Ask the worker's process to write its checkpoint and stop."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the process at once, and all that come after it."""
        self._is_killed = True
        if self._process is not None:
            self._process.kill()

    def end(self) -> int:
        """Let the process end, wait for it, and return its status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with suppress(BrokenPipeError), process:  # leaving `with process` closes its pipes, then waits
            pass
        return process.wait()


_NUMBER = "MINIMAND_WORKER"  # the environment variable with the number of a worker of this machine


def serve() -> None:
    """Do the tasks that are named on standard input, and answer each with a line; the end of the input ends all."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tasks print is no answer
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ[_NUMBER]) % torch.cuda.device_count())
    messages: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            messages.put(line)
        os._exit(0)  # also in the middle of a task: whoever waited for it is gone

    threading.Thread(target=listen, daemon=True).start()
    while True:
        print(json.dumps(perform(**json.loads(messages.get()))), file=answers, flush=True)
