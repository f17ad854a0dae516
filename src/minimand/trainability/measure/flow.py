"""Follows tensors from layer to layer through functions of torch: what each layer reads, and what came in between."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from ..._support.errors import WrongTypeError
from ..._support.torch_internals import without_torch_function

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


Visit = Callable[[Call, Tensor], Tensor | None]


class Flow(TorchFunctionMode):
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
            with without_torch_function():
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
        rest, bound, function = (), {"negative_slope": sum(slopes) / len(slopes)}, F.leaky_relu
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
    raise WrongTypeError(
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
