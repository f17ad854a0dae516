"""Blocks that are run twice: the second time with the random numbers, statistics, mode and precision of the first.

Running averages move once: in the second run those of normalizations stand still, and other buffers that a block
writes, such as the vectors of a spectral norm, or reads, such as the averages in an equilibrium, are what they were
before the first run.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..._support.torch.internals import (
    BatchNorm,
    InstanceNorm,
    NormBase,
    own_buffers,
    own_modules,
    version,
)
from ..._support.torch.places import Place, buffers_in, places_in
from ...blocks.transformer import SecondHalfStep
from ...equilibrium import Equilibrium, Tally

BufferPlace = tuple[dict[str, Tensor | None], str]
"""A buffer: the dictionary that its module keeps it in, and its name there."""

_written: WeakKeyDictionary[nn.Module, list[BufferPlace]] = WeakKeyDictionary()


class Run:
    """What the first run of a block began with."""

    __slots__ = ("buffers", "modes", "random")

    def __init__(self, modes: Sequence[bool]) -> None:
        self.modes = modes
        """Whether each of the block's parts was in training."""
        self.random: list[tuple[Any, Tensor]] = []
        self.buffers: list[tuple[BufferPlace, Tensor]] = []


@contextmanager
def first_run(module: nn.Module, device: torch.device, draws: bool = True) -> Iterator[Run]:
    """Note, in the `Run` that it gives, what a run of the block begins with, as far as the run changes it.

    `draws` says whether random numbers are noted too.
    """
    run = Run([part.training for part in parts(module)])
    places = _written.get(module)
    watched = _buffers(module) if places is None else places
    before = [(place, b, version(b)) for place in watched if (b := place[0][place[1]]) is not None]
    copies = [b.clone() for _, b, _ in before]
    generators = _generators(device) if draws else []
    states = [generator.get_rng_state() for generator in generators]
    yield run
    run.random = [
        (generator, state)
        for generator, state in zip(generators, states, strict=True)
        if not torch.equal(state, generator.get_rng_state())
    ]
    # What a normalization writes into its running averages, torch does not count.
    is_written = [(t[name] is not b or version(b) != n or "running_" in name) for (t, name), b, n in before]
    run.buffers = [(place, copy) for (place, _, _), copy, w in zip(before, copies, is_written, strict=True) if w]
    if places is None and module.training:
        _written[module] = [place for place, _ in run.buffers]


@contextmanager
def second_run(module: nn.Module, run: Run) -> Iterator[None]:
    """A context in which a block runs as it did in its first run, and leaves no trace."""
    with ExitStack() as stack:
        for part, training in zip(parts(module), run.modes, strict=True):
            if part.training != training:
                stack.callback(setattr, part, "training", part.training)
                part.training = training
            if isinstance(part, BatchNorm | InstanceNorm) and part.training:
                stack.enter_context(_still(part))
            if isinstance(part, Equilibrium):  # what is told of its calls is told of the first run
                stack.callback(vars(part).update, tally=part.tally, penalty=part.penalty)
                part.tally = Tally()
        after = [(generator, generator.get_rng_state()) for generator, _ in run.random]
        for generator, state in run.random:
            generator.set_rng_state(state)
        now = [(place, place[0][place[1]]) for place, _ in run.buffers]
        for (table, name), value in run.buffers:
            table[name] = value.clone()
        try:
            yield
        finally:
            for (table, name), value in now:
                table[name] = value
            for generator, state in after:
                generator.set_rng_state(state)


@contextmanager
def _still(norm: NormBase) -> Iterator[None]:
    """A context in which a normalization's running averages stand still, though it normalizes by those of the batch."""
    # Past the module's own `__setattr__`, which takes longer than a small block's sums.
    fields, buffers = vars(norm), own_buffers(norm)
    momentum, counter = fields["momentum"], buffers["num_batches_tracked"]
    fields["momentum"], buffers["num_batches_tracked"] = 0.0, None
    try:
        yield
    finally:
        fields["momentum"], buffers["num_batches_tracked"] = momentum, counter


def _buffers(module: nn.Module) -> list[BufferPlace]:
    """The buffers of a block whose values a run in training may depend on.

    So those of running averages are left out, unless they are an equilibrium's, which computes with them.
    """
    watched = parts(module)
    read = {part for layer in watched if isinstance(layer, Equilibrium) for part in layer.block.modules()}
    return [
        (own_buffers(part), name)
        for part in watched
        if part in read or not isinstance(part, BatchNorm | InstanceNorm)
        for name in own_buffers(part)
    ]


def _generators(device: torch.device) -> list[Any]:
    """What holds the random states that a block on a device draws from."""
    return [torch] if device.type == "cpu" else [torch, _Device(device)]


class _Device:
    """The random state of a device that is no CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.module = device, torch.get_device_module(device)

    def get_rng_state(self) -> Tensor:
        return self.module.get_rng_state(self.device)

    def set_rng_state(self, state: Tensor) -> None:
        self.module.set_rng_state(state, self.device)


class Precision:
    """The autocast within which a stage was called, to be entered again in its backward pass."""

    def __init__(self, device: torch.device) -> None:
        self.device = device.type
        self.is_on = torch.is_autocast_enabled(self.device)
        self.dtype = torch.get_autocast_dtype(self.device) if self.is_on else None

    def __call__(self) -> Any:
        """The context; without the cache, which would keep weights that were cast where no gradient is recorded."""
        if not self.is_on:
            return (
                torch.autocast(self.device, enabled=False) if torch.is_autocast_enabled(self.device) else nullcontext()
            )
        return torch.autocast(self.device, self.dtype, cache_enabled=False)


def parameters_of(module: nn.Module) -> list[Place]:
    """The parameters of what a block runs, each with its place."""
    return places_in(parts(module))


def buffers_of(module: nn.Module) -> list[Place]:
    """The buffers of what a block runs, each with its place."""
    return buffers_in(parts(module))


def parts(module: nn.Module) -> list[nn.Module]:
    """The modules that a block runs, another block's that it asks again included."""
    modules = {module: None}
    for part in (waiting := [module]):
        children = list(own_modules(part).values())
        if isinstance(part, SecondHalfStep):
            children.append(part.first[0])
        for child in children:
            if child is not None and child not in modules:
                modules[child] = None
                waiting.append(child)
    return waiting
