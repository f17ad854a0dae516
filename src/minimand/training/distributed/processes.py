"""The processes that torchrun started, seen from one of them."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..._support.errors import MinimandError

T = TypeVar("T")


class LostProcessError(MinimandError, RuntimeError):
    """Another process of the training ended before its end."""


def are_launched() -> bool:
    """Whether torchrun started this process, or the group is there."""
    return dist.is_available() and (dist.is_initialized() or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= {*os.environ})


def join() -> None:
    """Make the group of those that torchrun started, unless it is there."""
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)


def processes() -> int:
    """How many there are; joins them if there are several."""
    if not are_launched():
        return 1
    if not dist.is_initialized() and os.environ["WORLD_SIZE"] == "1":
        return 1
    join()
    return dist.get_world_size()


def leads() -> bool:
    """Whether this is the process that prints and writes: the only one, or the first."""
    started = dist.is_available() and dist.is_initialized()
    return (dist.get_rank() if started else int(os.environ.get("RANK", 0))) == 0


def shared(value: T) -> T:
    """What the first process has, in every one."""
    if processes() == 1:
        return value
    found = [tree_map_only(Tensor, Tensor.cpu, value)]
    with lost("another process" if leads() else "the first process"):
        dist.broadcast_object_list(found)
    return found[0]


@contextmanager
def lost(who: str) -> Iterator[None]:
    """Raise LostProcessError where another process does not answer."""
    try:
        yield
    except LostProcessError:
        raise
    except RuntimeError as error:
        raise LostProcessError(
            f"{who} does not answer any more, so training ends on rank {dist.get_rank()} too. It was killed, or ended "
            "by an error that it shows. The same command on the same run goes on from the last checkpoint."
        ) from error


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
