"""The processes that train one network together: each has some of its modules, and hears from the one before."""

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

from ...data.samples import WHOLE, Batch, Samples
from ..methods.local.activations import State
from ..methods.local.replay import Buffer
from ..runs.checkpoint import Checkpoint, pack_optimizer, unpack_optimizer
from ..runs.seeds import random_state
from .processes import lost, shared
from .ranks import Ranks

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


class Team(Ranks):
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
        super().__init__()
        self.stages = self.size
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

    def as_first(self, value: T) -> T:
        return shared(value)

    def gather(self, value: T) -> list[T]:
        """What all ranks have, on rank 0; elsewhere nothing."""
        found: list[Any] = [None] * self.size
        with lost("another rank"):
            dist.gather_object(tree_map_only(Tensor, Tensor.cpu, value), found if self.rank == 0 else None)
        return found if self.rank == 0 else []

    def complete(self) -> None:
        self._collect(everywhere=True)

    def pack(
        self, saved: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, device: torch.device
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        self._collect(everywhere=False)
        averages = {} if average is None else average.state_dict()
        by_rank = self.gather((*pack_optimizer(optimizer), averages, random_state(device)))
        if not by_rank:
            return {}, {}
        random, more_random = by_rank[-1][-1]  # of the rank that makes the batches
        sections, plain = {"model": saved.state_dict(), "random": random}, {"random": more_random}
        for rank, (tensors, numbers, *_) in enumerate(by_rank):
            sections[f"optimizer{_of(rank)}"], plain[f"optimizer{_of(rank)}"] = tensors, numbers
        if average is not None:  # as one process would have it
            sections["average"] = {name: x for _, _, averages, _ in by_rank for name, x in averages.items()}
        return sections, plain

    def unpack(self, found: Checkpoint, optimizer: torch.optim.Optimizer, average: nn.Module | None) -> None:
        own = f"optimizer{_of(self.rank)}"
        unpack_optimizer(optimizer, found.tensors.get(own, {}), found.state[own])
        if average is not None:
            average.load_state_dict({name: found.tensors["average"][name] for name in average.state_dict()})

    def _collect(self, everywhere: bool) -> None:
        """Bring the weights of every rank's modules to rank 0, or to all."""
        own = {name: tensor.cpu() for name, tensor in self.members[self.rank].state_dict().items()}
        found: list[Any] = [None] * self.size
        with lost("another rank"):
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
        with lost(f"rank {to}"):
            works = [dist.isend(header, to, tag=_HEADER), *(dist.isend(part, to, tag=_BODY) for part, _ in parts)]
            self._underway.append((works, [header, *(part for part, _ in parts)]))
            while len(self._underway) > _UNDERWAY:
                for work in self._underway.popleft()[0]:
                    work.wait()

    def _hear(self) -> Message:
        source = self.rank + 1
        header = torch.empty(2 + _ENTRIES * self._tensors(self.rank), dtype=torch.long)
        found = []
        with lost(f"rank {source}"):
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

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        """As `Samples` has it; batches are whole."""
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


def _of(rank: int) -> str:
    """What the names of a rank's own parts of a checkpoint end in."""
    return f" of rank {rank}" if rank else ""


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
