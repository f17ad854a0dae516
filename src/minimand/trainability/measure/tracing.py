"""Tracing: which layers of a model run, in which order, and which activation follows each."""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..._support.errors import MinimandError
from ..._support.torch_internals import NormBase, own_buffers
from ...layers.thresholds import Threshold
from ...networks.kinds import layers, normalizations
from .flow import AppliedActivation, DataFlowMode, LayerCall, LayerVisitor, Origins, tensors


@dataclass(frozen=True)
class Trace:
    """The layers of a model as one batch ran through them."""

    calls: tuple[LayerCall, ...]
    unused: tuple[str, ...]
    """The names of the layers that did not run."""
    output: Any
    sums: tuple[tuple[Origins, Origins], ...] = ()
    """Where two tensors that come from the batch were added: a skip and its branch, most often."""

    @property
    def first(self) -> dict[str, LayerCall]:
        """The first run of each layer, by name, in the order of execution."""
        return {call.name: call for call in self.calls if call.run == 0}

    @property
    def runs(self) -> dict[str, int]:
        """The number of times that each layer ran, by name."""
        return {name: sum(call.name == name for call in self.calls) for name in self.first}


def trace(model: nn.Module, batch: Any, visit: LayerVisitor | None = None) -> Trace:
    """Run a batch through a model and note which layers ran, in which order, and what followed each.

    Runs in the mode the model is in; gradients are recorded where the caller has them on. Hooks are taken off, and
    mode, buffers and random state put back, also when the model raises. Activations are found where a torch function
    computes them, for a module, as a function or a method; one written out by hand is seen as its parts
    (x * sigmoid(x) as a sigmoid).

    `visit` is given each call, as it happens, and the first tensor the layer returned; what it returns takes that
    tensor's place. `activation` is not known by then.
    """
    check_parameters(model)
    args, kwargs = arguments(batch)
    flow = DataFlowMode(visit)
    modules = layers(model)
    if not modules:
        kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise MinimandError(
            f"{type(model).__name__} has no layer to trace: expected a linear, convolutional, attention or recurrent "
            f"module. Found {kinds}."
        )
    with undisturbed(model), ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(flow.enter).remove)
            hook = functools.partial(flow.leave, name)
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        for name, module in normalizations(model).items():
            stack.callback(module.register_forward_hook(functools.partial(flow.normalized, name)).remove)
        for module in model.modules():
            if isinstance(module, Threshold):
                applied = AppliedActivation(type(module).__name__.lower(), copy.deepcopy(module), repr(module))
                stack.callback(module.register_forward_hook(functools.partial(flow.thresholded, applied)).remove)
        flow.begin((args, kwargs))
        with flow:
            output = model(*args, **kwargs)
    ran = {call.name for call in flow.calls}
    unused = tuple(name for name in modules if name not in ran)
    return Trace(tuple(flow.calls), unused, output, tuple(flow.sums))


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put back, at the end, the mode of every module, the buffers, and torch's random state."""
    modes = {module: module.training for module in model.modules()}
    put_buffers_back = buffers_back(model)
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    try:
        with torch.random.fork_rng(devices=list(devices)):
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


def measured(model: nn.Module) -> None:
    """Put a model in the mode in which the start of training is measured: no dropout, normalization by the batch.

    Use inside `undisturbed`, which puts the mode back.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, NormBase):
            module.train()


def arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the named arguments that a batch stands for; one that is empty or not finite is an error."""
    named = dict(batch) if isinstance(batch, Mapping) else {}
    listed = () if isinstance(batch, Mapping) else tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    inputs = list(tensors((listed, named)))
    if not inputs:
        raise MinimandError(f"batch is {type(batch).__name__}; expected a tensor, or a tuple or mapping of arguments.")
    for tensor in inputs:
        if tensor.numel() == 0:
            raise MinimandError(f"batch has a tensor of shape {tuple(tensor.shape)}; expected at least one sample.")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise MinimandError(
                f"batch has {bad} entries that are not finite, in a tensor of shape {tuple(tensor.shape)}."
            )
    return listed, named


@contextmanager
def explained(model: nn.Module, batch: Any) -> Iterator[None]:
    """Raise MinimandError, with the shapes of the batch, where the model cannot take it."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        too_few = "more than 1 value per channel" in str(error)
        if batch is None or (isinstance(error, ValueError) and not too_few):
            raise
        shapes = " and ".join(f"shape {tuple(tensor.shape)}" for tensor in tensors(batch))
        advice = " Normalization by the batch needs two samples or more." if too_few else ""
        raise MinimandError(f"{type(model).__name__} fails on a batch of {shapes}: {error}.{advice}") from error


def check_parameters(model: nn.Module) -> None:
    """Raise MinimandError if a parameter has no shape or no values yet."""
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise MinimandError(f"{name} is lazy: it has no shape yet. Call the model on a batch once, then come back.")
        if parameter.is_meta:
            raise MinimandError(
                f"{name} is on the meta device: it has no values. Make the model on a real one (`to_empty`)."
            )


def broken_parameters(model: nn.Module) -> list[str]:
    """The names of the parameters that have values which are not finite."""
    named = [(name, p) for name, p in model.named_parameters() if p.is_floating_point()]
    finite = torch.stack([p.detach().isfinite().all().cpu() for _, p in named]).tolist() if named else []
    return [name for (name, _), fine in zip(named, finite, strict=True) if not fine]
