"""Follows tensors from layer to layer through functions of torch: what each layer reads, and what came in between."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from ..._support.errors import WrongTypeError
from ..._support.torch.internals import base, without_torch_function
from ...equilibrium import Equilibrium
from ...networks.kinds import ACTIVATION_FUNCTIONS

BATCH = -1
"""The index that stands for the batch where calls are listed."""

# Functions of torch that count as activations, by the name under which torch calls them.
_STEPS = {"clamp", "clamp_min", "hardshrink", "sign", "softshrink", "threshold"}
_SMOOTH = {"atan", "cos", "hardsigmoid", "logsigmoid", "prelu", "rrelu", "tanhshrink"}
_ACTIVATIONS = set(ACTIVATION_FUNCTIONS) - {"linear"} | _STEPS | _SMOOTH
_OTHER_NAMES = {"arctan": "atan", "special_erf": "erf", "clip": "clamp", "log_sigmoid": "logsigmoid", "sgn": "sign"}
_SUMS = ("add", "iadd", "radd")
OUTSIDE = ("numpy", "array", "tolist", "item", "float")
"""Functions that make numbers of a tensor which torch does not follow, by the name under which torch calls them."""

_NEW_VALUES = ("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like")
_NEW_VALUES += ("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "grad")
_TORCH, _OWN = str(Path(torch.__file__).parent), str(Path(__file__).parents[1])
# Arguments that do not change which function is applied.
_OF_THE_CALL = ("inplace", "training", "out")


@dataclass(frozen=True)
class AppliedActivation:
    """An activation, as it was applied to every entry of a tensor, with the arguments it was called with."""

    name: str
    function: Callable[[Tensor], Tensor] = field(compare=False)
    arguments: str = ""

    def __str__(self) -> str:
        return self.name


class Since(NamedTuple):
    """The last activation, normalization and factor that a tensor met since it left a layer or came with the batch."""

    activation: AppliedActivation | None = None
    norm: str | None = None
    """The name of the normalization within the model."""
    scale: nn.Parameter | None = None
    """A learned factor that the tensor was multiplied by."""


Origins = dict[int, Since]
"""The calls that a tensor comes from without another layer between, `BATCH` among them."""


@dataclass(frozen=True)
class Cut:
    """A place where a tensor with a gradient was made into something that has none."""

    name: str
    """The function of torch that was called."""
    origins: frozenset[int]
    """The calls that the tensor came from, `BATCH` among them."""
    norms: frozenset[str]
    """The normalizations that the tensor had passed since those calls."""
    parameters: frozenset[nn.Parameter]
    """The parameters that the function was given."""
    grad_enabled: bool
    place: str
    """The line of source that called the function, as in "net.py, line 12"; empty where that is torch's own."""


@dataclass
class LayerCall:
    """One run of a layer on a batch."""

    index: int
    name: str
    module: nn.Module
    run: int
    """The number of times that this layer ran before."""
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    """The numbers of the tensors that the layer returned; `reads` has those that it was given."""
    after: dict[int, AppliedActivation | None]
    """The calls whose output reaches this one without passing another layer, and the last activation on the way."""
    activation: AppliedActivation | None = None
    """The first activation that the output reaches without passing another layer; None if there is none."""
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    """The arguments of the layer, while the call is visited."""
    grad_enabled: bool = True
    """Whether gradients were recorded where the layer ran."""
    reads_batch: bool = False
    """Whether what the layer reads passed neither a layer nor a normalization."""


LayerVisitor = Callable[[LayerCall, Tensor], Tensor | None]
"""A function of a call and the first tensor that the layer returned; a tensor that it returns replaces that one."""


class DataFlowMode(TorchFunctionMode):
    """A mode of torch that follows tensors from layer to layer."""

    def __init__(self, visit: LayerVisitor | None, skips: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.visit, self.skips = visit, skips
        self.calls: list[LayerCall] = []
        self.counts: dict[nn.Module, int] = {}
        self.numbers = WeakTensorKeyDictionary()
        self.origins = WeakTensorKeyDictionary()
        self.sums: list[tuple[Origins, Origins]] = []
        self.cuts: list[Cut] = []
        self.detached = WeakTensorKeyDictionary()
        self.attends = False
        self.numbered = self.inside = 0
        self.solving = [False]
        """Whether a solver is at work, and no block of its own; of each equilibrium or block that is being called."""

    def begin(self, batch: Any) -> None:
        for tensor in tensors(batch):
            self.origins[tensor] = {BATCH: Since()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self.inside:
            return output
        name = getattr(func, "__name__", "").strip("_")
        if name == "get":  # the getter of a property of tensors, such as .data
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        name = _OTHER_NAMES.get(name, name)
        self.attends = self.attends or _attends(name, output)
        written = (args[0],) if name == "setitem" else tuple(tensors(output))
        self._note_cut(name, (args, kwargs), output, written)
        origins = self._origins((args, kwargs)) if written else {}
        if not origins:
            return output
        if self.solving[-1]:
            pass  # a solver's own sums and norms are no part of the network
        elif name in _ACTIVATIONS:
            origins = self._activated(_activation(name, args, kwargs), origins)
        elif name in _SUMS:
            parts = [self._origins(arg) for arg in args[:2]]
            if len(parts) == 2 and all(parts):
                self.sums.append((parts[0], parts[1]))
        elif name in ("mul", "imul", "rmul"):
            factors = [base(arg) for arg in tensors(args)]
            scale = next((factor for factor in factors if isinstance(factor, nn.Parameter)), None)
            if scale is not None:
                origins = {index: since._replace(scale=scale) for index, since in origins.items()}
        for tensor in written:
            self.origins[tensor] = origins
        return output

    def _note_cut(self, name: str, inputs: Any, output: Any, written: Sequence[Tensor]) -> None:
        """Note a call that got a tensor with a gradient and returned values without one."""
        leaves_torch = name in OUTSIDE and not written  # .float() is a cast, __float__() is not
        if not (written or leaves_torch) or name in _NEW_VALUES or any(tensor.requires_grad for tensor in written):
            return
        # What was detached before it is handed to numpy is seen to leave torch.
        sources = [t for t in tensors(inputs) if t.requires_grad or (leaves_torch and t in self.detached)]
        if not sources:
            return
        for tensor in written:
            self.detached[tensor] = True
        origins = self._origins(inputs)
        norms = frozenset(since.norm for since in origins.values() if since.norm is not None)
        parameters = frozenset(tensor for tensor in sources if isinstance(tensor, nn.Parameter))
        self.cuts.append(Cut(name, frozenset(origins), norms, parameters, torch.is_grad_enabled(), _place()))

    def watch_solver(self, layer: Equilibrium, stack: ExitStack) -> None:
        """Tell what the solver of a layer computes from what its block does, by hooks that the stack takes off."""
        for module, is_solving in ((layer, True), (layer.block, False)):

            def begin(module: nn.Module, args: Any, is_solving: bool = is_solving) -> None:
                self.solving.append(is_solving)

            def end(module: nn.Module, args: Any, output: Any) -> None:
                self.solving.pop()

            stack.callback(module.register_forward_pre_hook(begin).remove)
            stack.callback(module.register_forward_hook(end).remove)

    def enter(self, module: nn.Module, args: Any) -> None:
        """A forward pre-hook of layers: what happens inside a layer is not followed."""
        self.inside += 1

    def leave(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """A forward hook of layers, which notes the call and lets it be visited."""
        self.inside -= 1
        if self.skips(module):
            return output
        written = list(tensors(output))
        run = self.counts.get(module, 0)
        self.counts[module] = run + 1
        reads = tuple(map(self._number, tensors((args, kwargs))))
        origins = self._origins((args, kwargs))
        after = {i: since.activation for i, since in origins.items() if i != BATCH}
        call = LayerCall(len(self.calls), name, module, run, reads, (), after, grad_enabled=torch.is_grad_enabled())
        call.reads_batch = not after and origins.get(BATCH, Since()).norm is None
        self.calls.append(call)
        if self.visit is not None and written:
            call.arguments = (args, kwargs)
            with without_torch_function():
                instead = self.visit(call, written[0])
            call.arguments = ((), {})
            if instead is not None:
                output = _replaced(output, instead)
                written[0] = instead
        call.writes = tuple(map(self._number, written))
        for tensor in written:
            self.origins[tensor] = {call.index: Since()}
        return output

    def normalized(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook of normalizations, which notes which one a tensor passed."""
        for tensor in tensors(output):
            origins = self._origins(tensor)
            self.origins[tensor] = {index: since._replace(norm=name) for index, since in origins.items()}

    def thresholded(self, threshold: AppliedActivation, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook of hard thresholds, which no function of torch shows, as their gradients are their own."""
        for tensor in tensors(output):
            self.origins[tensor] = self._activated(threshold, self._origins(args))

    def _activated(self, activation: AppliedActivation, origins: Origins) -> Origins:
        for index in origins.keys() - {BATCH}:
            self.calls[index].activation = self.calls[index].activation or activation
        return {index: since._replace(activation=activation) for index, since in origins.items()}

    def _origins(self, value: Any) -> Origins:
        origins: Origins = {}
        for tensor in tensors(value):
            for index, since in (self.origins.get(tensor) or {}).items():
                before = origins.get(index, Since())
                origins[index] = Since._make(b if a is None else a for a, b in zip(before, since, strict=True))
        return origins

    def _number(self, tensor: Tensor) -> int:
        if tensor not in self.numbers:
            self.numbers[tensor] = self.numbered
            self.numbered += 1
        return self.numbers[tensor]


def _attends(name: str, output: Any) -> bool:
    """Whether a function mixes tokens by attention: torch's own, or softmax over pairs of tokens."""
    if name != "softmax":
        return name == "scaled_dot_product_attention"
    return output.ndim == 4 or (output.ndim == 3 and output.shape[-1] == output.shape[-2])


def _place() -> str:
    """The innermost line of source that is neither torch's nor this package's measuring."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith((_TORCH, _OWN)):
        frame = frame.f_back
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"


def _activation(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AppliedActivation:
    function = getattr(torch, name, None) or getattr(F, name)
    bound = {key: value for key, value in kwargs.items() if key not in (*_OF_THE_CALL, "input")}
    options = args[1:]
    if name == "prelu":
        # Slopes that are learned start as constants; of several the mean.
        slopes = [float(slope.detach().mean()) for slope in (*options, *bound.values())]
        options, bound, function = (), {"negative_slope": sum(slopes) / len(slopes)}, F.leaky_relu
    if not options and not bound:
        return AppliedActivation(name, function)

    def applied(x: Tensor) -> Tensor:
        return function(x, *options, **bound)

    applied.__name__ = name  # so that errors name the function
    return AppliedActivation(name, applied, f"{options}{bound}")


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a tensor, a mapping, a tuple or a list, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(item)


def first_output(output: Any) -> Tensor:
    """The first floating-point tensor that a model returned; an error if there is none."""
    first = next((tensor for tensor in tensors(output) if tensor.is_floating_point()), None)
    if first is None:
        kind = type(output).__name__
        raise WrongTypeError(f"the model returned {kind}; expected a floating-point tensor, or some that hold one.")
    return first


def _replaced(output: Any, first: Tensor) -> Any:
    if isinstance(output, Tensor):
        return first
    items = list(output)
    at = next(i for i, item in enumerate(items) if any(True for _ in tensors(item)))
    items[at] = _replaced(items[at], first)
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
