"""The processes that torchrun started, seen from one of them."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..._support.errors import MisuseError
from ..._support.torch_internals import tree_map_only

T = TypeVar("T")


class LostProcessError(MisuseError):
    """Another process of the training ended before its end."""


def is_launched() -> bool:
    """Whether torchrun started this process, or a process group is initialized already."""
    return dist.is_available() and (dist.is_initialized() or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= {*os.environ})


def init_process_group() -> None:
    """Initialize the process group of torchrun's processes, unless there is one; it ends with the process."""
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())


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


@contextmanager
def peer_failures(peer: str) -> Iterator[None]:
    """Within it an error of torch.distributed is raised as LostProcessError, which names the peer."""
    try:
        yield
    except LostProcessError:
        raise
    except RuntimeError as error:
        raise LostProcessError(
            f"{peer} does not answer any more, so training ends on rank {dist.get_rank()} too. It was killed, or ended "
            "by an error that it shows. The same command on the same run goes on from the last checkpoint."
        ) from error
