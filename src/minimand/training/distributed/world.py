"""The processes of a training, seen from one of them: alone, or each with a share of every batch."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, cast, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..._support.clock import timing
from ..._support.errors import MinimandError, unknown_name
from ..._support.torch.internals import tree_map_only
from ..._support.torch.seeds import derived_seed, random_state, seed_everything
from ...data.samples import Batch, Loader, Samples
from ..loop.losses import Loss
from ..runs.checkpoint import Checkpoint, pack_optimizer, unpack_optimizer
from .processes import LostProcessError, init_process_group, is_launched, no_answer, peer_failures, world_size
from .sharding import Shards, usage

Parallel = Literal["ddp", "fsdp"]
"""How processes share each batch: with the whole model in each, or with its weights sharded over them."""
T = TypeVar("T")


class World:
    """The processes that train together. Without `parallel` they do not share batches."""

    pipeline_stages = 1
    """The number of processes that have other modules of the network."""

    def __init__(self, parallel: Parallel | None = None) -> None:
        self.parallel = parallel
        self.world_size = world_size()
        self.rank = dist.get_rank() if self.world_size > 1 else 0
        self.is_main = self.rank == 0
        """Whether this is the process that prints and writes."""
        self.batch_shares = self.world_size if parallel else 1
        """The number of processes that share a batch."""
        self.share = slice(self.rank if parallel else 0, None, self.batch_shares)
        """The rows of a batch that this process has."""
        self.shards: Shards | None = None

    def local_device(self, device: torch.device) -> torch.device:
        """The device on which this process trains: of several GPUs one for each process of a machine."""
        if self.world_size == 1 or device.type != "cuda":
            return device
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", self.rank)) % torch.cuda.device_count())
        torch.cuda.set_device(own)
        return own

    def on_main(self, function: Callable[[], T]) -> T:
        """The value of a function that rank 0 alone calls, in every process; its error is raised in all."""
        if self.world_size == 1:
            return function()
        dist.barrier()
        value_and_error: list[Any] = [None, None]
        if self.is_main:
            try:
                value_and_error[0] = function()
            except Exception as error:
                value_and_error[1] = error
        dist.broadcast_object_list(value_and_error, 0)
        if value_and_error[1] is not None:
            raise value_and_error[1]
        return value_and_error[0]

    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum of a tensor over the processes that share a batch, in place."""
        if self.parallel:
            dist.all_reduce(x)
        return x

    def agree(self, stop: bool, save: bool) -> list[bool]:
        """Whether all processes stop, and whether all save, after this step, as one of them wishes."""
        return self.any_rank(stop, save)

    def any_rank(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in one of the processes."""
        if self.world_size == 1:
            return [*flags]
        counts = torch.tensor(flags, dtype=torch.int)
        dist.all_reduce(counts)
        return counts.bool().tolist()

    def from_main(self, value: T) -> T:
        """The value of rank 0, of what may differ between processes."""
        return value

    def gather(self, value: T, everywhere: bool = False) -> list[T]:
        """The values of all ranks, tensors on the CPU, on rank 0 or everywhere; an empty list elsewhere."""
        by_rank: list[Any] = [None] * self.world_size
        value = tree_map_only(Tensor, Tensor.cpu, value)
        with peer_failures("another rank"):
            if everywhere:
                dist.all_gather_object(by_rank, value)
            else:
                dist.gather_object(value, by_rank if self.rank == 0 else None)
        return by_rank if everywhere or self.rank == 0 else []

    def source(self, samples: Samples, training: bool) -> Samples:
        """The samples that this process is trained or evaluated on."""
        return samples

    def complete(self) -> None:
        """Give every process all that was trained."""

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of rank 0, in place."""
        for x in tensors if self.parallel else ():
            dense = x.detach().contiguous()  # its own memory where it is so already
            dist.broadcast(dense.view(-1).view(torch.uint8), 0)  # a backend may not know the type
            if dense.data_ptr() != x.data_ptr():
                x.detach().copy_(dense)

    def describe_where(self, happened: Any, describe: Callable[[], str]) -> str:
        """The text that `describe` returns on the lowest rank where `happened` is true; every rank has to call it."""
        if self.parallel is None:
            return describe()
        answers: list[tuple[bool, str]] = [(False, "")] * self.batch_shares
        dist.all_gather_object(answers, (not happened, describe()))
        return min(answers, key=lambda answer: answer[0])[1]

    def wrap(self, module: nn.Module, example: Callable[[], Any], copies: Iterable[nn.Module] = ()) -> nn.Module:
        """The module to call in place of another one, so that its gradients are averaged over the processes.

        Copies, built like the module, are sharded where the module is. What was sharded before is put together again.
        """
        self.unwrap()
        if self.parallel is None:
            return module
        if self.parallel == "fsdp":
            self.shards = Shards([module, *copies], example())
            return module
        _, reached = usage(module, example())
        unused = any(p.requires_grad and p not in reached for p in module.parameters())
        return DistributedDataParallel(module, find_unused_parameters=unused)

    def unwrap(self) -> None:
        """Put whole weights back into modules that were sharded."""
        if self.shards is not None:
            self.shards.restore()
            self.shards = None

    def full(self, x: Tensor) -> Tensor:
        """The whole of a tensor of which each process may have a shard."""
        return x if self.shards is None else self.shards.whole(x)

    def _full_on_main(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        whole = ((name, self.full(x)) for name, x in tensors.items())  # one at a time, as most processes keep none
        return {name: x for name, x in whole if self.is_main}

    def _sharded(self, tensors: dict[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors split as others are, in every process."""
        return tensors if self.shards is None else {n: self.shards.part(x, like[n]) for n, x in tensors.items()}

    def pack(
        self, saved: nn.Module, optimizer: torch.optim.Optimizer, copies: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """The tensors of a checkpoint by section, whole on rank 0, and the plain state beside them."""
        tensors, plain = pack_optimizer(optimizer)
        random_tensors, random_plain = random_state(device)
        parts: dict[str, Any] = {"model": saved.state_dict(), "optimizer": tensors}
        parts |= {name: copy.state_dict() for name, copy in copies.items()}
        sections = {name: self._full_on_main(part) for name, part in parts.items()}
        return sections | {"random": random_tensors}, {"optimizer": plain, "random": random_plain}

    def unpack(self, checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, copies: Mapping[str, nn.Module]) -> None:
        """Put what `pack` gave, but for the model and the random state, into an optimizer and copies of the model."""
        tensors = checkpoint.tensors.get("optimizer", {})
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        like = {name: parameters[int(name.partition("/")[0])] for name in tensors}
        unpack_optimizer(optimizer, self._sharded(tensors, like), checkpoint.state["optimizer"])
        for name, copy in copies.items():
            copy.load_state_dict(self._sharded(checkpoint.tensors[name], copy.state_dict()))

    def seeded(self, batches: Iterator[Batch], seed: int, step: int) -> Iterator[Batch]:
        """The batches; several processes draw each step's random numbers from its number and their rank.

        So there is no state of a generator to be kept, and another number of processes can go on.
        """
        while True:
            if self.parallel:
                seed_everything((derived_seed(seed, step) * 1_009 + self.rank + 1) % 2**63)
            with timing("data"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch
            step += 1

    def global_batch(self, local: int) -> int:
        """The size of a batch of which this process has `local` samples."""
        if self.parallel is None:
            return local
        batch = int(self.all_reduce(torch.tensor(local)))
        self.check_batch(batch)
        return batch

    def weighted(self, loss: Loss, local: int | Tensor, batch: int) -> Loss:
        """The loss of `local` samples of a batch, weighted so that its mean over processes is that of the batch.

        A tensor is the number of places with a class; how many the batch has, the processes tell one another.
        """
        if isinstance(local, Tensor):
            if self.batch_shares == 1:
                return loss
            share = local * self.batch_shares / self.all_reduce(local.clone())
            return lambda outputs, targets: share * loss(outputs, targets)
        factor = local * self.batch_shares / batch
        return loss if factor == 1 else lambda outputs, targets: factor * loss(outputs, targets)

    def check_batch(self, batch: int) -> None:
        """Raise MinimandError unless a batch has a sample for each process."""
        if batch < self.batch_shares:
            raise MinimandError(
                f"a batch has the size {batch}, and each of the {self.batch_shares} processes needs a sample; expected "
                f"batches of {self.batch_shares} or more."
            )

    def evaluation_share(self, samples: Samples, size: int) -> tuple[slice, int]:
        """The rows of each batch that are evaluated here, and how often they count, 0 or 1.

        All processes call the model equally often, as its weights may be sharded; where one of them would be left
        without a row, each takes all, and rank 0 counts.
        """
        if self.batch_shares > 1 and (isinstance(samples, Loader) or 0 < len(samples) % size < self.batch_shares):
            return slice(None), int(self.is_main)
        return self.share, 1

    @contextmanager
    def failures(self) -> Iterator[None]:
        """A context in which the end of another process is raised as LostProcessError."""
        try:
            yield
        except RuntimeError as error:
            if "find_unused_parameters" in str(error):
                raise MinimandError(
                    "the model leaves parameters out of some steps and not of others, which several processes cannot "
                    "follow; expected one that uses the same parameters in each, or one process."
                ) from error
            lost = self.world_size > 1 and re.search("gloo|nccl|connection (closed|reset)", str(error), re.IGNORECASE)
            if not lost and not isinstance(error, dist.DistError):
                raise
            raise LostProcessError(
                f"{no_answer(f'another of the {self.world_size} processes', error)} With a run's folder the same "
                "command goes on from the last checkpoint, with as many processes as you like."
            ) from error


def join_world(parallel: Parallel | None, distributed: str | None, method: str, diagnose: bool) -> World:
    """The processes that `torchrun` started, or this one alone; where the method lets them, they share each batch."""
    if parallel is not None and parallel not in get_args(Parallel):
        raise unknown_name("parallel", str(parallel), get_args(Parallel))
    if parallel and not is_launched():
        raise MinimandError(
            f"parallel is {parallel!r}, but this is one process; expected to be started as in `torchrun "
            "--nproc-per-node 2 -m -- minimand train`, or parallel=None."
        )
    if parallel and distributed == "modules":
        raise MinimandError(
            f"parallel is {parallel!r}, but {method} places its modules itself; expected parallel=None."
        )
    if parallel:
        init_process_group()
    if distributed == "modules" or (parallel is None and world_size() == 1):
        return World()
    if distributed is None:
        raise MinimandError(f"{method} trains in one process, and there are {world_size()}; expected one.")
    if diagnose:
        raise MinimandError("diagnose looks at a model in one process, and there are several; expected diagnose=False.")
    return World(cast(Parallel, parallel or "ddp"))
