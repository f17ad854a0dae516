"""One forward and one backward pass, in which each layer is measured, and the loss that may start the second."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ..._support.torch_internals import tree_map, version, without_torch_function
from ...layers.thresholds import Threshold
from ...networks.kinds import layers
from .flow import LayerCall, first_output, tensors
from .layer_stat import LayerStat, Measured
from .tracing import Trace, measured, trace, undisturbed

LossChoice = str | Callable[..., Tensor]
"""A name, or a function of (outputs, targets), or of the outputs alone where there is no target."""

_LOSSES = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}
# Within a hundredth of the end of its range an activation has lost most of its slope.
_NEAR = 0.01


class _Signal(NamedTuple):
    """The numbers of one tensor, as `LayerStat` explains them, and how many entries are near the ends of a range."""

    mean: float
    second: float
    variance: float
    cosine: float
    nonfinite: float
    zero: float
    dead: float
    near_one: float
    near_ends: float


# The numbers of a tensor that was not measured.
_UNKNOWN = _Signal._make([math.nan] * len(_Signal._fields))


def measure(
    model: nn.Module,
    batch: Any,
    loss: LossChoice | None = None,
    target: Any = None,
    probes: int = 1,
    at_output: bool = False,
) -> Measured:
    """Run a batch forward and backward and measure each layer; nothing of the model is changed.

    Dropout is off and normalization uses the batch. `at_output` starts the gradient at the model's output instead of
    at what its last layer reads.
    """
    recorder = _Recorder(model, loss, target, probes, at_output)
    # A model that is one layer becomes a child, so that the layer is measured before the hook of the model runs.
    root = nn.Sequential(model) if model in layers(model).values() else model
    batch = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, batch)
    with undisturbed(model), torch.enable_grad(), ExitStack() as stack:
        measured(model)
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):  # cuDNN's cannot go back in eval mode
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        for module in layers(model).values():
            stack.callback(module.register_forward_pre_hook(recorder.read, with_kwargs=True).remove)
        stack.callback(root.register_forward_hook(recorder.backward).remove)
        model_trace = trace(root, batch, recorder.wrote)
    return recorder.result(model_trace)


class _Recorder:
    """Measures tensors as they pass, each once, and their gradients as they come back."""

    def __init__(self, model: nn.Module, loss: LossChoice | None, target: Any, probes: int, at_output: bool) -> None:
        self.model, self.loss, self.target, self.probes, self.at_output = model, loss, target, probes, at_output
        self.samples = 0
        self.slots: dict[tuple[int, int], int] = {}
        # The tensors stay alive, as the id of one that is gone may be given again.
        self.tensors: list[Tensor] = []
        self.signals: list[Tensor] = []
        self.gradients: dict[int, Tensor] = {}
        self.leaves: list[Tensor] = []
        self.reading: list[int] = []
        self.pairs: list[tuple[int, int]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.slot_gradients: dict[str, dict[int, Tensor]] = {}
        self.parameter_gradients: dict[nn.Parameter, Tensor] = {}

    def read(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Measure what a layer is about to read; a tensor without gradient becomes a leaf that has one."""
        with without_torch_function():
            x = next((tensor for tensor in tensors((args, kwargs)) if tensor.is_floating_point()), None)
            if x is None:
                self.reading.append(-1)
                return args, kwargs
            if not x.requires_grad:  # the batch, or what frozen weights made of it
                leaf = x.detach().requires_grad_()
                self.leaves.append(leaf)
                follows = leaf.clone()  # may be changed in place
                args, kwargs = tree_map(lambda item: follows if item is x else item, (args, kwargs))
                x = follows
            if not self.samples:
                turned = any(getattr(m, "batch_first", True) is False for m in self.model.modules())
                self.samples = x.shape[1] if turned and x.ndim == 3 else x.shape[0]
            self.reading.append(self._slot(x))
            return args, kwargs

    def wrote(self, call: LayerCall, output: Tensor) -> None:
        self.shapes.append(tuple(output.shape))
        self.pairs.append((self.reading.pop(), self._slot(output) if output.is_floating_point() else -1))

    def backward(self, _: nn.Module, args: Any, output: Any) -> None:
        """Send random vectors, and the loss if there is one, back through the model."""
        with without_torch_function():
            outputs = [t for t in tensors(output) if t.is_floating_point() and t.requires_grad]
            last = self.pairs[-1][0] if self.pairs else -1
            starts = [self.tensors[last]] if last >= 0 and len(self.pairs) > 1 and not self.at_output else outputs
            self._go_back("probe", starts, self.probes)
            if not self.gradients and starts is not outputs:
                self._go_back("probe", outputs, self.probes)
            if self.loss is not None or self.target is not None:
                value = _loss_of(self.loss, output, self.target)
                if value.requires_grad:
                    self._go_back("loss", [value], 1)

    def _go_back(self, kind: str, starts: list[Tensor], times: int) -> None:
        """Take gradients of random combinations of the starts and keep the means of their squared norms."""
        self.gradients = {}
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        inputs = [*parameters, *self.leaves]
        squares: dict[nn.Parameter, Tensor] = {}
        for _ in range(times if starts and inputs else 0):
            vectors = [torch.randn_like(start) if start.ndim else torch.ones_like(start) for start in starts]
            gradients = torch.autograd.grad(starts, inputs, vectors, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=False):
                if gradient is not None:
                    squares[parameter] = squares.get(parameter, 0) + _squared_norm(gradient)  # pyright: ignore[reportArgumentType]
        self.slot_gradients[kind] = {slot: value / times for slot, value in self.gradients.items()}
        self.parameter_gradients = {p: value / times for p, value in squares.items()} or self.parameter_gradients

    def _slot(self, t: Tensor) -> int:
        """The number of a tensor as it is now; it is measured when first seen."""
        key = (id(t), version(t))
        if key not in self.slots:
            slot = self.slots[key] = len(self.tensors)
            self.tensors.append(t)
            self.signals.append(_signal(t.detach(), self.samples))
            if t.requires_grad:
                t.register_hook(lambda gradient: self._add(slot, gradient))
        return self.slots[key]

    def _add(self, slot: int, gradient: Tensor) -> None:
        self.gradients[slot] = self.gradients.get(slot, 0) + _squared_norm(gradient)

    def result(self, model_trace: Trace) -> Measured:
        """The measurements of all layers, with one wait for the device."""
        slots, parameters = range(len(self.tensors)), list(self.model.parameters())
        squares: list[Tensor | None] = [of.get(slot) for of in self.slot_gradients.values() for slot in slots]
        squares += [self.parameter_gradients.get(parameter) for parameter in parameters]
        squares += [_squared_norm(p.detach()) for call in model_trace.calls for p in call.module.parameters()]
        device = self.signals[0].device
        nan = torch.full((), math.nan, dtype=_wide(device), device=device)
        of_signals = torch.cat([of_signal.to(device) for of_signal in self.signals])
        of_squares = torch.stack([nan if square is None else square.to(device) for square in squares])
        numbers = iter(torch.cat([of_signals, of_squares]).tolist())
        signals = [_Signal._make(islice(numbers, len(_Signal._fields))) for _ in slots]
        gradients = {kind: [next(numbers) for _ in slots] for kind in self.slot_gradients}
        weights = {p: square for p, square in zip(parameters, numbers, strict=False) if not math.isnan(square)}
        stats = []
        for i, call in enumerate(model_trace.calls):
            norm = math.sqrt(sum(next(numbers) for _ in call.module.parameters()))
            stats.append(self._stat(i, model_trace.calls, signals, gradients, weights, norm))
        return Measured(tuple(stats), model_trace, weights, self.samples)

    def _stat(
        self,
        i: int,
        calls: tuple[LayerCall, ...],
        signals: list[_Signal],
        gradients: dict[str, list[float]],
        weights: dict[nn.Parameter, float],
        parameter_norm: float,
    ) -> LayerStat:
        call, (read, wrote) = calls[i], self.pairs[i]
        follower = next((c for c in calls[i + 1 :] if i in c.after and self.pairs[c.index][0] >= 0), None)
        passed_on = _UNKNOWN if follower is None else signals[self.pairs[follower.index][0]]
        alone = follower is not None and len(follower.after) == 1  # else a gate, or a skip, has a part in it
        arriving = _UNKNOWN if read < 0 else signals[read]
        returned = _UNKNOWN if wrote < 0 else signals[wrote]
        squares = [weights[p] for p in call.module.parameters() if p in weights]
        gradient = math.sqrt(sum(squares)) if squares else math.nan

        def of(kind: str, slot: int) -> float:
            return gradients[kind][slot] if slot >= 0 and kind in gradients else math.nan

        def arrived(j: int) -> float:
            return of("probe", self.pairs[j][0]) if j < len(calls) else math.nan

        entries = self.tensors[wrote].numel() if wrote >= 0 else 1
        return LayerStat(
            name=call.name.removeprefix("0") if calls[i].module is self.model else call.name,
            call_index=call.run,
            kind=type(call.module).__name__,
            activation=None if call.activation is None else str(call.activation),
            shape=self.shapes[i],
            mean=returned.mean,
            second_moment=returned.second,
            batch_std=math.sqrt(returned.variance) if returned.variance >= 0 else math.nan,
            cosine=returned.cosine,
            nonfinite=returned.nonfinite,
            zero=passed_on.zero,
            dead=passed_on.dead,
            saturated=_saturated(call, passed_on) if alone else math.nan,
            gradient=of("probe", wrote) / entries,
            chi=_ratio(arrived(i), arrived(i + 1)),
            loss_gradient=of("loss", wrote) / entries,
            weight_gradient=gradient,
            update_ratio=_ratio(gradient, parameter_norm),
            read_second_moment=arriving.second,
            read_cosine=arriving.cosine,
            read_gradient=arrived(i) / max(self.samples, 1),
        )


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _signal(t: Tensor, samples: int) -> Tensor:
    """The numbers of a `_Signal` of a batch of samples, on the device of the tensor."""
    axis = next((i for i in range(min(t.ndim, 2)) if t.shape[i] == samples), 0)
    t = t.movedim(axis, 0)
    by_sample = samples > 0 and t.ndim > 0 and t.shape[0] % samples == 0
    x = t.reshape(samples if by_sample else 1, -1).to(_wide(t.device))
    squares = x.square().sum(1)
    directions = x / squares.sqrt().clamp_min(torch.finfo(x.dtype).tiny)[:, None]
    alive = (squares > 0).sum()
    nan = x.new_full((), math.nan)
    cosine = (directions.sum(0).square().sum() - alive) / (alive * (alive - 1))
    zero, size = x == 0, x.abs()
    # A unit is a channel of images, else an entry of the last dimension.
    whole = zero.reshape(t.shape if t.ndim > 1 else (-1, 1))
    dead = whole.movedim(1 if whole.ndim >= 4 else -1, 0).flatten(1).all(1)
    return torch.stack(
        [
            x.mean(),
            squares.sum() / x.numel(),
            (x - x.mean(0)).square().mean() if by_sample and samples > 1 else nan,
            cosine if by_sample else nan,
            1 - x.isfinite().to(x.dtype).mean(),
            zero.to(x.dtype).mean(),
            dead.to(x.dtype).mean(),
            (size > 1 - 2 * _NEAR).to(x.dtype).mean(),
            ((x < _NEAR) | (x > 1 - _NEAR)).to(x.dtype).mean(),
        ]
    )


def _saturated(call: LayerCall, passed_on: _Signal) -> float:
    """The fraction at the ends of a bounded activation's range; nan where it has no ends or jumps between them."""
    if call.activation is None or call.activation.name == "sign" or isinstance(call.activation.function, Threshold):
        return math.nan
    low, middle, high = call.activation.function(torch.tensor([-40.0, 0.3, 40.0], dtype=torch.double)).tolist()
    if abs(high - 1) > 1e-9 or not low < middle < high:
        return math.nan
    return passed_on.near_one if abs(low + 1) < 1e-9 else passed_on.near_ends if abs(low) < 1e-9 else math.nan


def _squared_norm(t: Tensor) -> Tensor:
    return torch.linalg.vector_norm(t.detach(), dtype=_wide(t.device)).square()


def _wide(device: torch.device) -> torch.dtype:
    """The widest float type of a device: squares of vanishing gradients underflow in single precision."""
    return torch.float32 if device.type == "mps" else torch.float64


def _loss_of(loss: LossChoice | None, output: Any, target: Any) -> Tensor:
    if target is not None:
        value = as_function(loss, target)(output, target)
    elif callable(loss):
        value = loss(output)
    else:
        raise MinimandError(f"loss is {loss!r} but there is no target; expected target=, what the outputs should be.")
    if not isinstance(value, Tensor) or value.ndim:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise WrongTypeError(f"loss returned {what}; expected a scalar tensor: the mean over the batch.")
    return value


def as_function(loss: LossChoice | None, target: Any) -> Callable[..., Tensor]:
    """The loss as a function of output and target, by default what suits the target."""
    if callable(loss):
        return loss
    if loss is not None and loss not in _LOSSES:
        raise unknown_name("loss", str(loss), _LOSSES)
    if not isinstance(target, Tensor):
        raise WrongTypeError(f"target is {type(target).__name__}; expected a tensor, or loss=, a function of it.")
    named = _LOSSES[loss or ("mse" if target.is_floating_point() else "cross_entropy")]
    return lambda output, target: named(first_output(output), target)
