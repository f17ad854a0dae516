"""The processes that train one network together: each has some of its modules, and hears from the one before."""

import atexit
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only

from ..data import Samples
from ..data.samples import Batch
from .activations import State
from .replay import Buffer

T = TypeVar("T")

# Messages that may be on their way, and that may wait to be read: batches and words in turn.
_UNDERWAY, _WAITING = 4, 4
_HEADER, _BODY = 1, 2
"""Tags."""
_DATA, _WORD = 0, 1
"""Kinds of message: a batch, or what all ranks do after a step."""
_DTYPES = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
_ENTRIES = 8
"""Numbers that describe a tensor: its type, its layout, its dimensions, and their lengths."""


class RankLostError(RuntimeError):
    """Another process of the training is gone."""


@dataclass(frozen=True)
class Sent(State):
    """A batch of states from the rank before, as it computed them."""

    seed: int | None = None
    """Of what is random in the modules above; None to draw one."""

    def to(self, device: torch.device) -> "Sent":
        """The same on a device, in the precision that it came in."""
        return Sent([leaf.to(device) for leaf in self.leaves], self.spec, self.seed)


@dataclass(frozen=True)
class Message:
    kind: int
    word: int
    tensors: list[Tensor]


class Alone:
    """The team of a training in one process."""

    rank, size = 0, 1

    def feed(self, samples: Samples, training: bool) -> Samples:
        """What this process is trained or evaluated on."""
        return samples

    def agree(self, stop: bool, save: bool) -> tuple[bool, bool]:
        """Whether all stop, and whether all save, after this step."""
        return stop, save

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return flag

    def share(self, value: T) -> T:
        """What rank 0 has."""
        return value

    def gather(self, value: T) -> list[T]:
        """What all ranks have, on rank 0; elsewhere nothing."""
        return [value]

    def collect(self, everywhere: bool) -> None:
        """Bring the weights of every rank's modules to rank 0, or to all."""


class Team(Alone):
    """A chain of processes. The highest rank has the first modules, rank 0 the last ones and so the network's outputs.

    Args:
        members: what each rank trains; every rank has a copy of all of it.
        specs: how the state that each rank is sent is made of tensors.
        device: where this rank computes.
        buffer: of batches to train on; None to train on each once, in order.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        specs: Sequence[Any],
        device: torch.device,
        buffer: "Buffer[Message] | None" = None,
    ) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.members, self.specs, self.device, self.buffer = members, specs, device, buffer
        self.is_first, self.is_last = self.rank == self.size - 1, self.rank == 0
        self.targets = torch.empty(0)
        self._underway: deque[tuple[list[Any], list[Tensor]]] = deque()
        self._mail: queue.Queue[Message | Exception] = queue.Queue(_WAITING)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Team":
        return self

    def feed(self, samples: Samples, training: bool) -> "Feed":
        return Feed(samples, self, training)

    def agree(self, stop: bool, save: bool) -> tuple[bool, bool]:
        if self.buffer is not None:  # ranks are at different steps until the epoch ends
            return False, False
        if not self.is_first:
            word = self._next().word
            stop, save = bool(word & 1), bool(word & 2)
        self._send(Message(_WORD, stop + 2 * save, []))
        return stop, save

    def any(self, flag: bool) -> bool:
        found = torch.tensor(int(flag))
        with _lost("another rank"):
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def share(self, value: T) -> T:
        return shared(value)

    def gather(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.size
        with _lost("another rank"):
            dist.gather_object(tree_map_only(Tensor, Tensor.cpu, value), found if self.rank == 0 else None)
        return found if self.rank == 0 else []

    def collect(self, everywhere: bool) -> None:
        own = {name: tensor.cpu() for name, tensor in self.members[self.rank].state_dict().items()}
        found: list[Any] = [None] * self.size
        with _lost("another rank"):
            if everywhere:
                dist.all_gather_object(found, own)
            else:
                found = self.gather(own)
        for rank, weights in enumerate(found):
            if rank != self.rank:
                self.members[rank].load_state_dict(weights)

    def send(self, state: Any, targets: Tensor, seed: int = 0) -> None:
        """Send a state with its targets to the next rank; returns at once unless it lags behind."""
        self._send(Message(_DATA, seed, [*tree_flatten(state)[0], targets]))

    def receive(self, count: int, training: bool) -> Iterator[Batch]:
        """So many batches of states from the rank before, or from the buffer."""
        if training and self.buffer is not None:
            yield from self._replayed(self.buffer, count)
            return
        with self._listening(count, training, self._mail.put):
            for _ in range(count):
                message = self._next()
                yield self._batch(message, message.word)

    def _batch(self, message: Message, seed: int | None) -> Any:
        *leaves, targets = message.tensors
        return Sent(leaves, self.specs[self.rank], seed), targets

    def _replayed(self, buffer: Buffer[Message], count: int) -> Iterator[Batch]:
        changed, failed = threading.Condition(), []

        def keep(message: Message | Exception) -> None:
            with changed:
                if isinstance(message, Exception):
                    failed.append(message)
                else:
                    buffer.write(message)
                changed.notify()

        with self._listening(count, False, keep) as listener:
            for _ in range(count):
                with changed:
                    found = buffer.read()
                    while found is None and not failed:
                        changed.wait(0.1)
                        # After the last message there is nothing to wait for.
                        found = buffer.read(beyond=not listener.is_alive())
                if failed or found is None:
                    raise failed[0]
                yield self._batch(found, None)

    @contextmanager
    def _listening(
        self, count: int, words: bool, put: Callable[[Message | Exception], None]
    ) -> Iterator[threading.Thread]:
        """Hear so many batches, with a word after each or without, while this process computes."""

        def listen() -> None:
            try:
                for _ in range(count):
                    put(self._hear())
                    if words:
                        put(word := self._hear())
                        if word.word & 1:
                            return
            except Exception as error:
                put(error)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        yield listener
        listener.join()

    def _next(self) -> Message:
        found = self._mail.get()
        if isinstance(found, Exception):
            raise found
        return found

    def _send(self, message: Message) -> None:
        if self.is_last:
            return
        to = self.rank - 1
        parts = [_laid_out(t) for t in message.tensors]
        header = _header(message, parts, self._tensors(to))
        with _lost(f"rank {to}"):
            works = [dist.isend(header, to, tag=_HEADER), *(dist.isend(part, to, tag=_BODY) for part, _ in parts)]
            self._underway.append((works, [header, *(part for part, _ in parts)]))
            while len(self._underway) > _UNDERWAY:
                for work in self._underway.popleft()[0]:
                    work.wait()

    def _hear(self) -> Message:
        source = self.rank + 1
        header = torch.empty(2 + _ENTRIES * self._tensors(self.rank), dtype=torch.long)
        found = []
        with _lost(f"rank {source}"):
            dist.recv(header, source, tag=_HEADER)
            kind, word, *description = header.tolist()
            for start in range(0, len(description) if kind == _DATA else 0, _ENTRIES):
                dtype, last, ndim, *shape = description[start : start + _ENTRIES]
                part = torch.empty(shape[:ndim], dtype=_DTYPES[dtype], device=self.device)
                dist.recv(part, source, tag=_BODY)
                found.append(part.movedim(-1, 1) if last else part)
        return Message(kind, word, found)

    def _tensors(self, rank: int) -> int:
        """In a batch that the rank is sent: those of a state, and its targets."""
        return self.specs[rank].num_leaves + 1


@dataclass(frozen=True)
class Feed:
    """Samples as a rank sees them: states from the rank before; on the first one those of the data."""

    samples: Samples
    team: Team
    training: bool

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, size: int, seed: int | None = None, first: int = 0) -> Iterator[Batch]:
        """As `Samples` has it."""
        own = self.team.is_first
        count = self.count(size, seed is not None) - first
        found = self.samples.batches(size, seed, first) if own else self.team.receive(count, self.training)
        for inputs, targets in found:
            self.team.targets = targets
            yield inputs, targets

    def count(self, size: int, shuffled: bool) -> int:
        """As `Samples` has it."""
        return self.samples.count(size, shuffled)

    def to(self, device: torch.device) -> "Feed":
        """Itself: batches go to the device one by one."""
        return self


def processes() -> int:
    """How many train together: those that torchrun started, or the group that is there. Joins them."""
    if not dist.is_available():
        return 1
    if not dist.is_initialized() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)
    return dist.get_world_size() if dist.is_initialized() else 1


def own_rank() -> int:
    """The number of this process; 0 where it is the only one."""
    return dist.get_rank() if processes() > 1 else 0


def shared(value: T) -> T:
    """What rank 0 has, on every rank."""
    if processes() == 1:
        return value
    found = [tree_map_only(Tensor, Tensor.cpu, value)]
    with _lost("rank 0" if own_rank() else "another rank"):
        dist.broadcast_object_list(found)
    return found[0]


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _lost(who: str) -> Iterator[None]:
    try:
        yield
    except RankLostError:
        raise
    except RuntimeError as error:
        raise RankLostError(
            f"{who} does not answer any more, so training ends on rank {dist.get_rank()} too. It was killed, or ended "
            "by an error that it shows. The same command on the same run goes on from the last checkpoint."
        ) from error


def _laid_out(t: Tensor) -> tuple[Tensor, bool]:
    """A tensor with its elements in the order of memory, and whether its channels were moved to the end for that."""
    moved = t.ndim == 4 and not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
    return (t.movedim(1, -1) if moved else t.contiguous()), moved


def _header(message: Message, parts: Sequence[tuple[Tensor, bool]], room: int) -> Tensor:
    found = torch.zeros(2 + _ENTRIES * room, dtype=torch.long)
    found[0], found[1] = message.kind, message.word
    for i, (part, moved) in enumerate(parts):
        entries = [_DTYPES.index(part.dtype), int(moved), part.ndim, *part.shape]
        found[2 + _ENTRIES * i : 2 + _ENTRIES * i + len(entries)] = torch.tensor(entries)
    return found
