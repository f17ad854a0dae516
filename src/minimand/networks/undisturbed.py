"""A model as it was: mode, buffers and random state put back after something ran it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .._support.torch.internals import own_buffers
from .memory.rerunning import storing_all


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put back, at the end, the mode of every module, the buffers, and torch's random state.

    Within it parts with a `memory` keep everything, so that each layer runs once and what is measured of it is so too.
    """
    modes = {module: module.training for module in model.modules()}
    put_buffers_back = buffers_back(model)
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    try:
        with torch.random.fork_rng(devices=list(devices)), storing_all(model):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        put_buffers_back()


def buffers_back(model: nn.Module) -> Callable[[], None]:
    """A function that puts the buffers of a model back as they are now, the same tensors with the same values."""
    tables = [own_buffers(module) for module in model.modules()]
    saved = [(table, name, b, b.clone()) for table in tables for name, b in table.items() if b is not None]

    def put_back() -> None:
        with torch.no_grad():
            for table, name, buffer, value in saved:
                table[name] = buffer.copy_(value)

    return put_back
