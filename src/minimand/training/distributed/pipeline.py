"""A pipeline of processes: each trains some modules of one network, on states that the one before it sends."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..._support.torch.internals import tree_flatten
from ..._support.torch.seeds import random_state
from ...data.samples import WHOLE, Batch, Samples
from ..loop.state_batch import StateBatch
from ..runs.checkpoint import Checkpoint, pack_optimizer, unpack_optimizer
from .processes import broadcast_object, peer_failures
from .world import World

T = TypeVar("T")

# Messages that may be in flight, and that may wait to be read: batches and signals in turn.
_IN_FLIGHT, _WAITING = 4, 4
# Tags of torch.distributed: the numbers that describe a message, and the message.
_HEADER, _BODY = 1, 2
# Kinds of message: a batch, or a signal of what all ranks do after a step.
_DATA, _SIGNAL = 0, 1
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_DTYPES = (*_FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool)
# Numbers that describe a tensor: its type, its layout, its dimensions, and their lengths.
_ENTRIES = 8


@dataclass(frozen=True)
class SentState(StateBatch):
    """A batch of states from the rank before, as it computed them."""

    seed: int | None = None
    """The seed of what is random in the modules above; None to draw one."""


@dataclass(frozen=True)
class Message:
    """A message from one rank to the next: a batch of tensors with its seed, or a signal."""

    kind: int
    number: int
    """The seed of a batch; of a signal 1 for stop, 2 for save, 3 for both."""
    tensors: list[Tensor]


@dataclass
class _Stored(Generic[T]):
    item: T
    uses: int = 1


class Buffer(Generic[T]):
    """The last `capacity` batches; read is the newest of the least used ones (Belilovsky et al. 2020, priority LIFO).

    A batch that is written has been used once, by the module that made it; a new one takes the place of the oldest.
    """

    def __init__(self, capacity: int, max_reuse: int | None = None) -> None:
        self.max_reuse = max_reuse
        self._stored: deque[_Stored[T]] = deque(maxlen=capacity)

    def write(self, item: T) -> None:
        """Store a batch, which its maker has used once."""
        self._stored.append(_Stored(item))

    def read(self, beyond: bool = False) -> T | None:
        """A batch to train on; None where none may be read again by `max_reuse`, unless `beyond` lets it."""
        least = min(reversed(self._stored), key=lambda stored: stored.uses, default=None)
        if least is None or (self.max_reuse is not None and least.uses > self.max_reuse and not beyond):
            return None
        least.uses += 1
        return least.item


class Pipeline(World):
    """A chain of processes that train one network.

    The highest rank has the first modules, rank 0 the last ones and so the network's outputs. `members` are the modules
    of each rank, of which every rank has a copy; `specs` say how the state that a rank is sent is made of tensors.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        specs: Sequence[Any],
        device: torch.device,
        buffer: Buffer[Message] | None = None,
    ) -> None:
        super().__init__()
        self.pipeline_stages = self.world_size
        self.members, self.specs, self.device, self.buffer = members, specs, device, buffer
        self.is_first, self.is_last = self.rank == self.world_size - 1, self.rank == 0
        self.targets = torch.empty(0)
        self._in_flight: deque[tuple[list[Any], list[Tensor]]] = deque()
        self._inbox: queue.Queue[Message | Exception] = queue.Queue(_WAITING)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pipeline":
        return self

    def source(self, samples: Samples, training: bool) -> "PipelineSource":
        return PipelineSource(samples, self, training)

    def agree(self, stop: bool, save: bool) -> list[bool]:
        if self.buffer is not None:  # ranks are at different steps until the epoch ends
            return [False, False]
        if not self.is_first:
            signal = self._next().number
            stop, save = bool(signal & 1), bool(signal & 2)
        self._send(Message(_SIGNAL, int(stop) + 2 * int(save), []))
        return [stop, save]

    def from_main(self, value: T) -> T:
        return broadcast_object(value)

    def complete(self) -> None:
        self._collect(everywhere=True)

    def pack(
        self, saved: nn.Module, optimizer: torch.optim.Optimizer, copies: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        self._collect(everywhere=False)
        copied = {name: copy.state_dict() for name, copy in copies.items()}
        by_rank = self.gather((*pack_optimizer(optimizer), copied, random_state(device)))
        if not by_rank:
            return {}, {}
        random_tensors, random_plain = by_rank[-1][-1]  # of the rank that makes the batches
        sections: dict[str, dict[str, Tensor]] = {"model": saved.state_dict(), "random": random_tensors}
        plain: dict[str, Any] = {"random": random_plain}
        for rank, (tensors, numbers, *_) in enumerate(by_rank):
            sections[f"optimizer{_of(rank)}"], plain[f"optimizer{_of(rank)}"] = tensors, numbers
        for copy in copies:  # one process would keep the parts of all ranks in one section
            sections[copy] = {name: x for _, _, states, _ in by_rank for name, x in states[copy].items()}
        return sections, plain

    def unpack(self, checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, copies: Mapping[str, nn.Module]) -> None:
        section = f"optimizer{_of(self.rank)}"
        unpack_optimizer(optimizer, checkpoint.tensors.get(section, {}), checkpoint.state[section])
        for name, copy in copies.items():
            copy.load_state_dict({key: checkpoint.tensors[name][key] for key in copy.state_dict()})

    def _collect(self, everywhere: bool) -> None:
        """Bring the weights of every rank's modules to rank 0, or to all."""
        for rank, weights in enumerate(self.gather(dict(self.members[self.rank].state_dict()), everywhere)):
            if rank != self.rank:
                self.members[rank].load_state_dict(weights)

    def send(self, state: Any, targets: Tensor, seed: int = 0) -> None:
        """Send a state with its targets to the next rank; returns at once unless it lags behind."""
        self._send(Message(_DATA, seed, [*tree_flatten(state)[0], targets]))

    def receive(self, count: int, training: bool) -> Iterator[Batch]:
        """A number of batches of states, from the rank before or from the buffer."""
        if training and self.buffer is not None:
            yield from self._replayed(self.buffer, count)
            return
        with self._listening(count, training, self._inbox.put):
            for _ in range(count):
                message = self._next()
                yield self._batch(message, message.number)

    def _batch(self, message: Message, seed: int | None) -> Any:
        *leaves, targets = message.tensors
        return SentState(leaves, self.specs[self.rank], seed), targets

    def _replayed(self, buffer: Buffer[Message], count: int) -> Iterator[Batch]:
        changed, failed = threading.Condition(), []

        def store(message: Message | Exception) -> None:
            with changed:
                if isinstance(message, Exception):
                    failed.append(message)
                else:
                    buffer.write(message)
                changed.notify()

        with self._listening(count, False, store) as listener:
            for _ in range(count):
                with changed:
                    message = buffer.read()
                    while message is None and not failed:
                        changed.wait(0.1)
                        # After the last message there is nothing to wait for.
                        message = buffer.read(beyond=not listener.is_alive())
                if failed or message is None:
                    raise failed[0]
                yield self._batch(message, None)

    @contextmanager
    def _listening(
        self, count: int, signals: bool, put: Callable[[Message | Exception], None]
    ) -> Iterator[threading.Thread]:
        """Receive a number of batches, each with a signal after it or without, while this process computes."""

        def listen() -> None:
            try:
                for _ in range(count):
                    put(self._receive_message())
                    if signals:
                        put(signal := self._receive_message())
                        if signal.number & 1:
                            return
            except Exception as error:
                put(error)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        yield listener
        listener.join()

    def _next(self) -> Message:
        message = self._inbox.get()
        if isinstance(message, Exception):
            raise message
        return message

    def _send(self, message: Message) -> None:
        if self.is_last:
            return
        to = self.rank - 1
        parts = [_laid_out(t) for t in message.tensors]
        header = _header(message, parts, self._tensors(to))
        with peer_failures(f"rank {to}"):
            works = [dist.isend(header, to, tag=_HEADER), *(dist.isend(part, to, tag=_BODY) for part, _ in parts)]
            self._in_flight.append((works, [header, *(part for part, _ in parts)]))
            while len(self._in_flight) > _IN_FLIGHT:
                for work in self._in_flight.popleft()[0]:
                    work.wait()

    def _receive_message(self) -> Message:
        source = self.rank + 1
        header = torch.empty(2 + _ENTRIES * self._tensors(self.rank), dtype=torch.long)
        tensors = []
        with peer_failures(f"rank {source}"):
            dist.recv(header, source, tag=_HEADER)
            kind, number, *description = header.tolist()
            for start in range(0, len(description) if kind == _DATA else 0, _ENTRIES):
                dtype, last, ndim, *shape = description[start : start + _ENTRIES]
                part = torch.empty(shape[:ndim], dtype=_DTYPES[dtype], device=self.device)
                dist.recv(part, source, tag=_BODY)
                tensors.append(part.movedim(-1, 1) if last else part)
        return Message(kind, number, tensors)

    def _tensors(self, rank: int) -> int:
        """The number of tensors in a batch that a rank is sent: those of a state, and its targets."""
        return self.specs[rank].num_leaves + 1


@dataclass(frozen=True)
class PipelineSource:
    """Samples as a rank sees them: states from the rank before; on the first rank those of the data."""

    samples: Samples
    pipeline: Pipeline
    training: bool
    is_prepared: ClassVar = True

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, size: int, seed: int | None = None, first: int = 0, share: slice = WHOLE) -> Iterator[Batch]:
        # Ranks of a pipeline do not share batches. Called now, not when the first one is asked for, as of any samples.
        if self.pipeline.is_first:
            return self._with_targets_noted(self.samples.batches(size, seed, first))
        count = self.count(size, seed is not None) - first
        return self._with_targets_noted(self.pipeline.receive(count, self.training))

    def _with_targets_noted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for x, targets in batches:
            self.pipeline.targets = targets
            yield x, targets

    def count(self, size: int, shuffled: bool) -> int:
        return self.samples.count(size, shuffled)

    def to(self, device: torch.device) -> "PipelineSource":
        return self  # batches go to the device one by one


def _of(rank: int) -> str:
    """The end of the names of a rank's parts of a checkpoint."""
    return f" of rank {rank}" if rank else ""


def _laid_out(t: Tensor) -> tuple[Tensor, bool]:
    """A tensor with its elements in the order of memory, and whether its channels were moved to the end for that."""
    moved = t.ndim == 4 and not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
    return (t.movedim(1, -1) if moved else t.contiguous()), moved


def _header(message: Message, parts: Sequence[tuple[Tensor, bool]], room: int) -> Tensor:
    header = torch.zeros(2 + _ENTRIES * room, dtype=torch.long)
    header[0], header[1] = message.kind, message.number
    for i, (part, moved) in enumerate(parts):
        entries = [_DTYPES.index(part.dtype), int(moved), part.ndim, *part.shape]
        header[2 + _ENTRIES * i : 2 + _ENTRIES * i + len(entries)] = torch.tensor(entries)
    return header
