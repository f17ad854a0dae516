"""The processes of a training, seen from one of them: alone, or each with a share of every batch."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, cast, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..._support.errors import MinimandError, unknown_name
from ...data.samples import Batch, Loader, Samples, seed_everything
from ..loop.losses import Loss
from ..runs.checkpoint import Checkpoint, pack_optimizer, unpack_optimizer
from ..runs.seeds import random_state
from .processes import LostProcessError, are_launched, join, processes
from .sharding import Shards
from .usage import usage

Parallel = Literal["ddp", "fsdp"]
T = TypeVar("T")

_LAUNCH = "torchrun --nproc-per-node 2 -m -- minimand train"


class Ranks:
    """The processes that train together; without a kind they do not share batches."""

    stages = 1
    """How many of them have other modules of the network."""

    def __init__(self, kind: Parallel | None = None) -> None:
        self.kind = kind
        self.size = processes()
        self.rank = dist.get_rank() if self.size > 1 else 0
        self.count = self.size if kind else 1
        """That share a batch."""
        self.share = slice(self.rank if kind else 0, None, self.count)
        """Its rows of a batch."""
        self.shards: Shards | None = None

    @property
    def leads(self) -> bool:
        """Whether it is the one that tells and writes."""
        return self.rank == 0

    def own_device(self, device: torch.device) -> torch.device:
        """Where it trains: each process of a machine on a GPU of its own."""
        if self.size == 1 or device.type != "cuda":
            return device
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", self.rank)) % torch.cuda.device_count())
        torch.cuda.set_device(own)
        return own

    def first(self, function: Callable[[], T]) -> T:
        """What a function gives that the first process alone calls, when all have come so far; all raise its error."""
        if self.size == 1:
            return function()
        dist.barrier()
        found: list[Any] = [None, None]
        if self.leads:
            try:
                found[0] = function()
            except Exception as error:
                found[1] = error
        dist.broadcast_object_list(found, 0)
        if found[1] is not None:
            raise found[1]
        return found[0]

    def sum(self, x: Tensor) -> Tensor:
        """Of all processes."""
        if self.kind:
            dist.all_reduce(x)
        return x

    def any(self, wish: bool) -> bool:
        """Whether one of the processes wishes it."""
        return self._any(wish)[0]

    def agree(self, stop: bool, save: bool) -> tuple[bool, bool]:
        """Whether all stop and whether all save after this step, as one of them wishes it."""
        stop, save = self._any(stop, save)
        return stop, save

    def _any(self, *wishes: bool) -> list[bool]:
        if self.size == 1:
            return [*wishes]
        found = torch.tensor(wishes, dtype=torch.int)
        dist.all_reduce(found)
        return found.bool().tolist()

    def as_first(self, value: T) -> T:
        """What the first process has of what may differ."""
        return value

    def feed(self, samples: Samples, training: bool) -> Samples:
        """What this process is trained or evaluated on."""
        return samples

    def complete(self) -> None:
        """Give every process all that was trained."""

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Make tensors those of the first process, in place."""
        for x in tensors if self.kind else ():
            dense = x.detach().contiguous()  # its own memory where it is so already
            dist.broadcast(dense.view(-1).view(torch.uint8), 0)  # a backend may not know the type
            if dense.data_ptr() != x.data_ptr():
                x.detach().copy_(dense)

    def told(self, knows: Any, function: Callable[[], str]) -> str:
        """What a function says in the first process that knows something."""
        if self.kind is None:
            return function()
        found: list[tuple[bool, str]] = [(False, "")] * self.count
        dist.all_gather_object(found, (not knows, function()))
        return min(found, key=lambda said: said[0])[1]

    def wrap(self, module: nn.Module, example: Callable[[], Tensor], *others: nn.Module) -> nn.Module:
        """What is called in the place of a module whose gradients are averaged over the processes.

        Others, built like it, are sharded where it is; the earlier ones are put together again.
        """
        self.unwrap()
        if self.kind is None:
            return module
        if self.kind == "fsdp":
            self.shards = Shards([module, *others], example())
            return module
        reached = usage(module, example()).reached
        unused = any(p.requires_grad and p not in reached for p in module.parameters())
        return DistributedDataParallel(module, find_unused_parameters=unused)

    def unwrap(self) -> None:
        """Put whole weights back into modules that were sharded."""
        if self.shards is not None:
            self.shards.restore()
            self.shards = None

    def whole(self, x: Tensor) -> Tensor:
        """A tensor of which each process may have a part."""
        return x if self.shards is None else self.shards.whole(x)

    def gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors, in the first process; nothing in the others."""
        whole = ((name, self.whole(x)) for name, x in tensors.items())
        return {name: x for name, x in whole if self.leads}

    def split(self, tensors: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `gathered`, in every process: parts as those of other tensors."""
        return tensors if self.shards is None else {n: self.shards.part(x, like[n]) for n, x in tensors.items()}

    def pack(
        self,
        saved: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: nn.Module | None,
        device: torch.device,
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """The tensors of a checkpoint and the plain state beside them, whole in the first process."""
        tensors, plain = pack_optimizer(optimizer)
        random, more_random = random_state(device)
        parts = {"model": saved.state_dict(), "optimizer": tensors}
        if average is not None:
            parts["average"] = average.state_dict()
        sections = {name: self.gathered(part) for name, part in parts.items()}
        return sections | {"random": random}, {"optimizer": plain, "random": more_random}

    def unpack(self, found: Checkpoint, optimizer: torch.optim.Optimizer, average: nn.Module | None) -> None:
        """The inverse of `pack`, but for the model and the random state."""
        self.load(optimizer, found.tensors.get("optimizer", {}), found.state["optimizer"])
        if average is not None:
            average.load_state_dict(self.split(found.tensors["average"], average.state_dict()))

    def load(self, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Put a gathered state into an optimizer."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        like = {name: parameters[int(name.partition("/")[0])] for name in tensors}
        unpack_optimizer(optimizer, self.split(tensors, like), plain)

    def seeded(self, batches: Iterator[Batch], seed: int, step: int) -> Iterator[Batch]:
        """The batches; several processes draw each step's random numbers from its number and theirs.

        So there is no state of a generator to be kept, and another number of processes can go on.
        """
        while True:
            if self.kind:
                seed_everything(((seed * 1_000_003 + step) * 1_009 + self.rank + 1) % 2**63)
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch
            step += 1

    def batch(self, own: int) -> int:
        """How many samples a batch has of which `own` are here.

        Raises:
            ValueError: too few to share.
        """
        if self.kind is None:
            return own
        batch = int(self.sum(torch.tensor(own)))
        self.check_batch(batch)
        return batch

    def weighted(self, loss: Loss, own: int, batch: int) -> Loss:
        """The loss of `own` samples, weighted so that its mean over processes is that of the batch."""
        factor = own * self.count / batch
        return loss if factor == 1 else lambda outputs, targets: factor * loss(outputs, targets)

    def check_batch(self, batch: int) -> None:
        """Raise ValueError unless there is a sample for each process."""
        if batch < self.count:
            raise MinimandError(
                f"a batch has the size {batch}, and each of the {self.count} processes needs a sample; expected "
                f"batches of {self.count} or more."
            )

    def evaluated(self, samples: Samples, size: int) -> tuple[slice, int]:
        """Which rows of each batch are evaluated here, and how often they count.

        All processes call the model equally often, as its weights may be sharded; where one of them would be left
        without a row, each takes all, and the first one counts.
        """
        if self.count > 1 and (isinstance(samples, Loader) or 0 < len(samples) % size < self.count):
            return slice(None), int(self.leads)
        return self.share, 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise LostProcessError where another process ended."""
        try:
            yield
        except RuntimeError as error:
            if "find_unused_parameters" in str(error):
                raise MinimandError(
                    "the model leaves parameters out of some steps and not of others, which several processes cannot "
                    "follow; expected one that uses the same parameters in each, or one process."
                ) from error
            lost = self.size > 1 and re.search("gloo|nccl|connection (closed|reset)", str(error), re.IGNORECASE)
            if not lost and not isinstance(error, dist.DistError):
                raise
            raise LostProcessError(
                f"another of the {self.size} processes ended; what it printed says why. With a run's folder the same "
                "command goes on from the last checkpoint, with as many processes as you like."
            ) from error


def joined(parallel: Parallel | None, method: object, diagnose: bool) -> Ranks:
    """The processes that `torchrun` started, for a method; this one alone where it started none.

    Raises:
        ValueError: an unknown `parallel`, one without torchrun, or with what only one process can do.
    """
    if parallel is not None and parallel not in get_args(Parallel):
        raise unknown_name("parallel", str(parallel), get_args(Parallel))
    refusal = getattr(method, "refusal", lambda processes: None)
    if why := refusal(processes()):
        raise MinimandError(why)
    if not are_launched():
        if parallel:
            raise MinimandError(
                f"parallel is {parallel!r}, but this is one process; expected to be started as in `{_LAUNCH}`, or "
                "parallel=None."
            )
        return Ranks()
    if parallel and not getattr(method, "data_parallel", True):
        raise MinimandError(
            f"parallel is {parallel!r}, but {type(method).__name__} places its modules itself; expected parallel=None."
        )
    if parallel:
        join()
    if not getattr(method, "data_parallel", True) or (parallel is None and processes() == 1):
        return Ranks()
    if diagnose:
        raise MinimandError("diagnose looks at a model in one process, and there are several; expected diagnose=False.")
    return Ranks(cast(Parallel, parallel or "ddp"))
