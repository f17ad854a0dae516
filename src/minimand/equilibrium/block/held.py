"""A block that is one function for a whole solve: one draw of random numbers, one set of statistics."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..._support.errors import MinimandError
from ..._support.torch.internals import BatchNorm, NormBase, own_buffers
from ..._support.torch.places import buffers_in, cut_off, places_in, swapped

Generators = list[Tensor]


class Held:
    """A block as it is during one solve and its gradient; `with held():` around every call of the block.

    Normalizations with running statistics use those, as in evaluation, and parametrizations that iterate, such as
    spectral_norm, stay where they are: their buffers are copies, which nothing writes into. Random numbers are those of
    the first call each time, and after the solve torch's generators are where one call would have left them.
    """

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        self.device = device
        self._before: Generators | None = None
        self._after: Generators = []
        self.is_random = False
        """Whether the block draws random numbers of torch; known after its first call."""
        self.modes = [(part, part.training) for part in block.modules()]
        self.places = cut_off(places_in(block.modules()))
        self._buffers = buffers_in(block.modules())
        self.parts = _parts_that_change(block)
        buffers = [own_buffers(part) for part in self.parts]
        self._copies = [(table, name, b.clone()) for table in buffers for name, b in table.items() if b is not None]
        kind = device.type
        self.autocast_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """A context in which the block is one function: its random numbers and statistics stay."""
        originals = [(table, name, table[name]) for table, name, _ in self._copies]
        modes = [(part, part.training) for part in self.parts]
        for part in self.parts:
            part.training = False
        for table, name, copy in self._copies:
            table[name] = copy
        try:
            with self._replayed():
                yield
        finally:
            for table, name, original in originals:
                table[name] = original
            for part, training in modes:
                part.training = training

    @contextmanager
    def again(self) -> Iterator[None]:
        """A context in which the block computes as in the forward pass, for a backward pass that calls it anew."""
        autocast = torch.autocast(self.device.type, self.autocast_dtype, self.autocast_dtype is not None)
        others = [(part, part.training) for part, training in self.modes if part.training != training]
        for part, training in others:
            part.training = not training
        try:
            with autocast, swapped([*self.places, *self._buffers]), _generators_back(self.device, self.is_random):
                yield
        finally:
            for part, training in others:
                part.training = training

    @contextmanager
    def _replayed(self) -> Iterator[None]:
        if self._before is None:
            self._before = _generators(self.device)
            yield
            self._after = _generators(self.device)
            self.is_random = any(not torch.equal(a, b) for a, b in zip(self._before, self._after, strict=True))
        elif self.is_random:
            _set_generators(self.device, self._before)
            yield
            _set_generators(self.device, self._after)
        else:
            yield

    def update_statistics(self, call: Callable[[], object]) -> None:
        """Call the block once as in training, so that running statistics move as by one batch, and nothing else."""
        others = [part for part in self.parts if not isinstance(part, NormBase)]
        if len(others) == len(self.parts):
            return
        for part in others:
            part.training = False
        try:
            with torch.no_grad(), _generators_back(self.device, self.is_random):
                call()
        finally:
            for part in others:
                part.training = True


def refresh(block: nn.Module) -> None:
    """Let the parametrizations of a block that iterate make the step that a call in training makes."""
    with torch.no_grad():
        for module in block.modules():
            if parametrize.is_parametrized(module):
                for name, parametrization in cast(nn.ModuleDict, module.parametrizations).items():
                    if parametrization.training and any(True for _ in parametrization.buffers()):
                        getattr(module, name)


def _parts_that_change(block: nn.Module) -> list[nn.Module]:
    """The modules in training mode whose calls change their buffers: normalizations and parametrizations."""
    parts: list[nn.Module] = []
    for module in block.modules():
        if isinstance(module, NormBase) and module.training:
            if module.running_mean is not None:
                parts.append(module)
            elif isinstance(module, BatchNorm):
                raise MinimandError(
                    f"the block has {module}, which normalizes by each batch, so that samples whose solve is done "
                    "would have to stay; expected track_running_stats=True, or a GroupNorm."
                )
        elif parametrize.is_parametrized(module):
            parts += [part for part in cast(nn.ModuleDict, module.parametrizations).modules() if part.training]
    return parts


def _generators(device: torch.device) -> Generators:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_generators(device: torch.device, states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


@contextmanager
def _generators_back(device: torch.device, is_random: bool) -> Iterator[None]:
    states = _generators(device) if is_random else []
    try:
        yield
    finally:
        if is_random:
            _set_generators(device, states)
