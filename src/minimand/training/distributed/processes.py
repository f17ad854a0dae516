"""The processes that torchrun started, seen from one of them."""

import atexit
import hashlib
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..._support.errors import MinimandError, MisuseError
from ..._support.torch.internals import tree_map_only

T = TypeVar("T")

TIMEOUT = "MINIMAND_RANK_TIMEOUT"
"""The environment variable with the seconds that a process waits for another one; 120 by default."""
_SECONDS = 120.0
# Differences between ranks that a message names.
_SHOWN = 3


class LostProcessError(MisuseError):
    """Another process of the training ended before its end, or did not answer in time."""


def is_launched() -> bool:
    """Whether torchrun started this process, or a process group is initialized already."""
    return dist.is_available() and (dist.is_initialized() or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= {*os.environ})


def init_process_group() -> None:
    """Initialize the process group of torchrun's processes, unless there is one; it ends with the process.

    Raises:
        MisuseError: the port is in use. LostProcessError: not all processes came in time.
    """
    if dist.is_initialized():
        return
    address, seconds = ":".join(os.environ.get(f"MASTER_{part}", "?") for part in ("ADDR", "PORT")), timeout()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=seconds))
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        if "EADDRINUSE" in str(error):
            raise MisuseError(
                f"the port of {address} is in use by another program; name a free one: torchrun --master-port 29501."
            ) from None
        raise LostProcessError(
            f"not all {os.environ.get('WORLD_SIZE')} processes met at {address} within {seconds:g} seconds "
            f"({TIMEOUT}): one of them did not start, or another program answers there."
        ) from None
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())


def timeout() -> float:
    """The seconds that a process waits for another one."""
    text = os.environ.get(TIMEOUT, str(_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise MinimandError(f"{TIMEOUT} is {text!r}; expected seconds, such as 120.")
    return seconds


def world_size() -> int:
    """The number of processes; where torchrun started several, their group is initialized."""
    if not is_launched() or (not dist.is_initialized() and os.environ["WORLD_SIZE"] == "1"):
        return 1
    init_process_group()
    return dist.get_world_size()


def is_main() -> bool:
    """Whether this is the process that prints and writes: the only one, or rank 0."""
    started = dist.is_available() and dist.is_initialized()
    return (dist.get_rank() if started else int(os.environ.get("RANK", 0))) == 0


def broadcast_object(value: T) -> T:
    """The object that rank 0 has, in every process; tensors arrive on the CPU."""
    if world_size() == 1:
        return value
    objects = [tree_map_only(Tensor, Tensor.cpu, value)]
    with peer_failures("another process" if is_main() else "the first process"):
        dist.broadcast_object_list(objects)
    return objects[0]


def check_same(settings: Callable[[], Mapping[str, Any]]) -> None:
    """Raise MisuseError, in all processes, where one has other settings than the first; names what differs."""
    if world_size() == 1:
        return
    by_rank: list[dict[str, Any]] = [{}] * dist.get_world_size()
    with peer_failures("another process"):
        dist.all_gather_object(by_rank, dict(_leaves(settings())))
    first = by_rank[0]
    for rank, other in enumerate(by_rank):
        names = [name for name in first | other if first.get(name) != other.get(name)]
        if names:
            shown = [f"{name} is {other.get(name)!r}, not {first.get(name)!r}" for name in names[:_SHOWN]]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise MisuseError(
                f"rank {rank} was not started as rank 0 was: {'; '.join(shown)}{more}. Start all ranks by the same "
                "command, with the same code and versions."
            )


def code_and_versions() -> dict[str, str]:
    """What has to be the same in all processes beside their settings: a digest of minimand's code, and versions."""
    code = hashlib.sha256()
    for file in sorted(Path(__file__).parents[2].rglob("*.py")):
        code.update(file.read_bytes())
    versions = {"minimand": version("minimand"), "torch": torch.__version__, "python": platform.python_version()}
    return {**versions, "the code of minimand": code.hexdigest()[:8]}


def _leaves(settings: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values in nested mappings by their paths, without the names of classes."""
    if not isinstance(settings, Mapping):
        yield path, settings
        return
    for key, value in settings.items():
        yield from _leaves(value, path if str(key)[:1].isupper() else f"{path}.{key}" if path else str(key))


def no_answer(peer: str, error: Exception) -> str:
    """What an error of torch.distributed says of another process: it ended, or did not answer in time."""
    if re.search("timed? ?out", str(error), re.IGNORECASE):
        return (
            f"{peer} has not answered for {timeout():g} seconds, so training ends here too. It may be stopped, stuck "
            f"or slow; {TIMEOUT}=600 waits for ten minutes."
        )
    ended = "It was killed, or ended by an error that it shows."
    return f"{peer} does not answer any more, so training ends here too. {ended}"


@contextmanager
def peer_failures(peer: str) -> Iterator[None]:
    """A context in which an error of torch.distributed is raised as LostProcessError, which names the peer."""
    try:
        yield
    except LostProcessError:
        raise
    except RuntimeError as error:
        raise LostProcessError(
            f"{no_answer(peer, error)} The same command on the same run goes on from the last checkpoint."
        ) from error
