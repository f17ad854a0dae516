"""What ran when a model was called: its layers in the order of execution, and the activation that follows each."""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from ..blocks.thresholds import Threshold

_LAYERS = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""The modules that normalize."""
BATCH = -1
"""Stands for the batch where calls are listed."""

_ACTIVATIONS = {
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("softsign", "tanh", "sigmoid", "hardtanh", "hardswish", "hardsigmoid", "logsigmoid", "tanhshrink", "softshrink"),
    *("hardshrink", "threshold", "clamp", "clamp_min", "erf", "sin", "cos", "atan", "sign"),
}
_SAME = {"arctan": "atan", "special_erf": "erf", "clip": "clamp", "log_sigmoid": "logsigmoid", "sgn": "sign"}
_SUMS = ("add", "iadd", "radd")
# Arguments that do not change which function it is.
_OF_THE_CALL = ("inplace", "training", "out")


@dataclass(frozen=True)
class Applied:
    """A function applied to every entry, with the arguments it was called with."""

    name: str
    function: Callable[[Tensor], Tensor] = field(compare=False)
    arguments: str = ""

    def __str__(self) -> str:
        return self.name


class Since(NamedTuple):
    """What a tensor met after it left a layer, or came in with the batch: of each kind the last."""

    activation: Applied | None = None
    norm: str | None = None
    """The module, by name."""
    scale: nn.Parameter | None = None
    """A learned factor."""


Origins = dict[int, Since]
"""The calls that a tensor comes from without another layer between, `BATCH` among them."""


@dataclass
class Call:
    """One run of a layer."""

    index: int
    """Its place among all runs."""
    name: str
    module: nn.Module
    run: int
    """How often this layer ran before."""
    reads: tuple[int, ...]
    """The tensors it was given, by number."""
    writes: tuple[int, ...]
    """The tensors it returned, by number."""
    after: dict[int, Applied | None]
    """The calls whose output reaches this one without passing another layer, and the last activation on the way."""
    activation: Applied | None = None
    """The first activation that its output reaches without passing another layer; None if there is none."""
    given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    """Its arguments, while it is visited."""


@dataclass(frozen=True)
class Trace:
    """The layers of a model as one batch ran through them."""

    calls: tuple[Call, ...]
    unused: tuple[str, ...]
    """Layers that did not run."""
    output: Any
    sums: tuple[tuple[Origins, Origins], ...] = ()
    """Where two tensors that come from the batch were added: a skip and its branch, most often."""

    @property
    def first(self) -> dict[str, Call]:
        """The first run of each layer, by name, in the order of execution."""
        return {call.name: call for call in self.calls if call.run == 0}

    @property
    def runs(self) -> dict[str, int]:
        """How often each layer ran."""
        return {name: sum(call.name == name for call in self.calls) for name in self.first}


Visit = Callable[[Call, Tensor], Tensor | None]


def is_layer(module: nn.Module) -> bool:
    """Whether its weights mix features: what initialization and diagnosis speak of."""
    return isinstance(module, _LAYERS) or is_conv1d(module)


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is the linear layer of GPT-2 in transformers, whose weight is (in, out)."""
    return any((c.__module__, c.__name__) == ("transformers.pytorch_utils", "Conv1D") for c in type(module).__mro__)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers with a weight, by name, in the order of registration; a layer inside another is part of it."""
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside and is_layer(module):
            found[name] = module
            inside.update(module.modules())
    return found


def trace(model: nn.Module, batch: Any, visit: Visit | None = None) -> Trace:
    """Run a batch through a model and note which layers ran, in which order, and what followed each.

    Runs in the mode the model is in; gradients are recorded where the caller has them on. Hooks are taken off, and
    mode, buffers and random state put back, also when the model raises. Activations are found where a torch function
    computes them, for a module, as a function or a method; one written out by hand is seen as its parts
    (x * sigmoid(x) as a sigmoid).

    Args:
        model: any module.
        batch: a tensor; a tuple or list of positional, or a mapping of named, arguments.
        visit: is given each call, as it happens, and the first tensor the layer returned; what it returns takes that
            tensor's place. `activation` is not known by then.

    Raises:
        ValueError: an empty or non-finite batch; no layer in the model; lazy or meta parameters.
    """
    check_parameters(model)
    args, kwargs = arguments(batch)
    flow = _Flow(visit)
    found = layers(model)
    if not found:
        kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise ValueError(
            f"{type(model).__name__} has no layer to trace: expected a linear, convolutional, attention or recurrent "
            f"module. Found {kinds}."
        )
    with undisturbed(model), ExitStack() as stack:
        for name, module in found.items():
            stack.callback(module.register_forward_pre_hook(flow.enter).remove)
            hook = functools.partial(flow.leave, name)
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        for name, module in model.named_modules():
            if isinstance(module, NORMS):
                stack.callback(module.register_forward_hook(functools.partial(flow.normalized, name)).remove)
            elif isinstance(module, Threshold):
                applied = Applied(type(module).__name__.lower(), copy.deepcopy(module), repr(module))
                stack.callback(module.register_forward_hook(functools.partial(flow.thresholded, applied)).remove)
        flow.begin((args, kwargs))
        with flow:
            output = model(*args, **kwargs)
    ran = {call.name for call in flow.calls}
    unused = tuple(name for name in found if name not in ran)
    return Trace(tuple(flow.calls), unused, output, tuple(flow.sums))


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put back, at the end, the mode of every module, the buffers, and torch's random state."""
    modes = {module: module.training for module in model.modules()}
    back = buffers_back(model)
    tensors = [*model.parameters(), *model.buffers()]
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        back()


def buffers_back(model: nn.Module) -> Callable[[], None]:
    """What puts the buffers back as they are now, the same tensors with the same values."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]

    def back() -> None:
        with torch.no_grad():
            for module, name, buffer, value in kept:
                module._buffers[name] = buffer.copy_(value)

    return back


def measured(model: nn.Module) -> None:
    """Dropout off, but normalization by the batch: the mode in which the signal at the start of training is measured.

    Use inside `undisturbed`, which puts the mode back.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train()


def arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the named arguments that a batch stands for; raises ValueError if empty or not finite."""
    named = dict(batch) if isinstance(batch, Mapping) else {}
    listed = () if isinstance(batch, Mapping) else tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    given = list(tensors((listed, named)))
    if not given:
        raise ValueError(f"batch is {type(batch).__name__}; expected a tensor, or a tuple or mapping of arguments.")
    for tensor in given:
        if tensor.numel() == 0:
            raise ValueError(f"batch has a tensor of shape {tuple(tensor.shape)}; expected at least one sample.")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(
                f"batch has {bad} entries that are not finite, in a tensor of shape {tuple(tensor.shape)}."
            )
    return listed, named


def check_model(model: Any) -> None:
    """Raise TypeError if it is no module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}; expected a module.")


@contextmanager
def explained(model: nn.Module, batch: Any) -> Iterator[None]:
    """Raise ValueError, with the shapes of the batch, where the model cannot take it."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        too_few = "more than 1 value per channel" in str(error)
        if batch is None or (isinstance(error, ValueError) and not too_few):
            raise
        shapes = " and ".join(f"shape {tuple(tensor.shape)}" for tensor in tensors(batch))
        advice = " Normalization by the batch needs two samples or more." if too_few else ""
        raise ValueError(f"{type(model).__name__} fails on a batch of {shapes}: {error}.{advice}") from error


def check_parameters(model: nn.Module) -> None:
    """Raise ValueError if a parameter has no shape or no values yet."""
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ValueError(f"{name} is lazy: it has no shape yet. Call the model on a batch once, then come back.")
        if parameter.is_meta:
            raise ValueError(
                f"{name} is on the meta device: it has no values. Make the model on a real one (`to_empty`)."
            )


def broken_parameters(model: nn.Module) -> list[str]:
    """Those that are not finite, by name."""
    named = [(name, p) for name, p in model.named_parameters() if p.is_floating_point()]
    finite = torch.stack([p.detach().isfinite().all().cpu() for _, p in named]).tolist() if named else []
    return [name for (name, _), fine in zip(named, finite, strict=True) if not fine]


class _Flow(TorchFunctionMode):
    """Follows tensors from layer to layer."""

    def __init__(self, visit: Visit | None) -> None:
        super().__init__()
        self.visit = visit
        self.calls: list[Call] = []
        self.counts: dict[nn.Module, int] = {}
        self.numbers = WeakTensorKeyDictionary()
        self.origins = WeakTensorKeyDictionary()
        self.sums: list[tuple[Origins, Origins]] = []
        self.numbered = self.inside = 0

    def begin(self, batch: Any) -> None:
        for tensor in tensors(batch):
            self.origins[tensor] = {BATCH: Since()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self.inside:
            return output
        name = getattr(func, "__name__", "").strip("_")
        name = _SAME.get(name, name)
        written = (args[0],) if name == "setitem" else tuple(tensors(output))
        origins = self._origins((args, kwargs)) if written else {}
        if not origins:
            return output
        if name in _ACTIVATIONS:
            origins = self._activated(_activation(name, args, kwargs), origins)
        elif name in _SUMS:
            parts = [self._origins(arg) for arg in args[:2]]
            if len(parts) == 2 and all(parts):
                self.sums.append((parts[0], parts[1]))
        elif name in ("mul", "imul", "rmul"):
            factors = [_base(arg) for arg in tensors(args)]
            scale = next((factor for factor in factors if isinstance(factor, nn.Parameter)), None)
            if scale is not None:
                origins = {index: since._replace(scale=scale) for index, since in origins.items()}
        for tensor in written:
            self.origins[tensor] = origins
        return output

    def enter(self, module: nn.Module, args: Any) -> None:
        self.inside += 1

    def leave(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        self.inside -= 1
        written = list(tensors(output))
        run = self.counts.get(module, 0)
        self.counts[module] = run + 1
        reads = tuple(map(self._number, tensors((args, kwargs))))
        after = {i: since.activation for i, since in self._origins((args, kwargs)).items() if i != BATCH}
        call = Call(len(self.calls), name, module, run, reads, (), after)
        self.calls.append(call)
        if self.visit is not None and written:
            call.given = (args, kwargs)
            with torch._C.DisableTorchFunction():
                instead = self.visit(call, written[0])
            call.given = ((), {})
            if instead is not None:
                output = _replaced(output, instead)
                written[0] = instead
        call.writes = tuple(map(self._number, written))
        for tensor in written:
            self.origins[tensor] = {call.index: Since()}
        return output

    def normalized(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        for tensor in tensors(output):
            origins = self.origins.get(tensor) or {}
            self.origins[tensor] = {index: since._replace(norm=name) for index, since in origins.items()}

    def thresholded(self, found: Applied, module: nn.Module, args: Any, output: Any) -> None:
        """As its gradient is its own, no function of torch shows it."""
        for tensor in tensors(output):
            self.origins[tensor] = self._activated(found, self._origins(args))

    def _activated(self, found: Applied, origins: Origins) -> Origins:
        for index in origins.keys() - {BATCH}:
            self.calls[index].activation = self.calls[index].activation or found
        return {index: since._replace(activation=found) for index, since in origins.items()}

    def _origins(self, value: Any) -> Origins:
        found: Origins = {}
        for tensor in tensors(value):
            for index, since in (self.origins.get(tensor) or {}).items():
                before = found.get(index, Since())
                found[index] = Since(
                    before.activation or since.activation,
                    before.norm or since.norm,
                    since.scale if before.scale is None else before.scale,
                )
        return found

    def _number(self, tensor: Tensor) -> int:
        if tensor not in self.numbers:
            self.numbers[tensor] = self.numbered
            self.numbered += 1
        return self.numbers[tensor]


def _base(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None else tensor._base


def _activation(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Applied:
    function = getattr(torch, name, None) or getattr(F, name)
    bound = {key: value for key, value in kwargs.items() if key not in (*_OF_THE_CALL, "input")}
    rest = args[1:]
    if name == "prelu":
        # Slopes that are learned start as constants; of several the mean.
        slopes = [float(slope.detach().mean()) for slope in (*rest, *bound.values())]
        rest, bound, function = (sum(slopes) / len(slopes),), {}, F.leaky_relu
    if not rest and not bound:
        return Applied(name, function)

    def applied(x: Tensor) -> Tensor:
        return function(x, *rest, **bound)

    applied.__name__ = name  # errors say which it is
    return Applied(name, applied, f"{rest}{bound}")


def tensors(value: Any) -> Iterator[Tensor]:
    """Those in a tensor, a mapping, a tuple or a list, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def first_output(output: Any) -> Tensor:
    """The first floating-point tensor that a model returned; raises TypeError if there is none."""
    for tensor in tensors(output):
        if tensor.is_floating_point():
            return tensor
    raise TypeError(
        f"the model returned {type(output).__name__}; expected a floating-point tensor, or some that hold one."
    )


def _replaced(output: Any, first: Tensor) -> Any:
    """The output with its first tensor replaced."""
    if isinstance(output, Tensor):
        return first
    kept = list(output)
    at = next(i for i, item in enumerate(kept) if any(True for _ in tensors(item)))
    kept[at] = _replaced(kept[at], first)
    return type(output)(*kept) if hasattr(output, "_fields") else type(output)(kept)
