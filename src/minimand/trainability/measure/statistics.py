"""One forward and one backward pass, in which each layer is measured, and the loss that may start the second."""

import math
import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ..._support.torch.internals import tree_map, version, without_torch_function
from ...layers.thresholds import Threshold
from ...networks.kinds import layers
from ...networks.undisturbed import undisturbed
from .connection import Reached, reached_by
from .flow import LayerCall, first_output, tensors
from .layer_stat import LayerStat, Measured
from .reading import NO_GRADIENT, NOT_MEASURED, Missing, Reading, ratio
from .signals import PendingSignal, Signal, wide
from .tracing import Trace, measured, trace, while_solving

LossChoice = str | Callable[..., Tensor]
"""A name, or a function of (outputs, targets), or of the outputs alone where there is no target."""

_LOSSES = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}


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
        recorder.solving = while_solving(model)
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):  # cuDNN's cannot go back in eval mode
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        for module in layers(model).values():
            stack.callback(module.register_forward_pre_hook(recorder.read, with_kwargs=True).remove)
        stack.callback(root.register_forward_hook(recorder.backward).remove)
        model_trace = trace(root, batch, recorder.wrote, recorder.skips)
    return recorder.result(model_trace)


class _Recorder:
    """Measures tensors as they pass, each once, and their gradients as they come back."""

    def __init__(self, model: nn.Module, loss: LossChoice | None, target: Any, probes: int, at_output: bool) -> None:
        self.model, self.loss, self.target, self.probes, self.at_output = model, loss, target, probes, at_output
        self.samples = 0
        self.slots: dict[tuple[int, int], int] = {}
        # The tensors stay alive, as the id of one that is gone may be given again.
        self.tensors: list[Tensor] = []
        self.signals: list[PendingSignal] = []
        self.gradients: dict[int, Tensor] = {}
        self.leaves: list[Tensor] = []
        self.reading: list[int] = []
        self.pairs: list[tuple[int, int]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.slot_gradients: dict[str, dict[int, Tensor]] = {}
        self.parameter_gradients: dict[nn.Parameter, Tensor] = {}
        self.starts: list[Tensor] = []
        self.connected: Reached | None = None
        self.swallowed: tuple[nn.Parameter, ...] = ()
        self.solving: Callable[[nn.Module], bool] = lambda layer: False
        self.is_going_back = False

    def skips(self, layer: nn.Module) -> bool:
        """Whether a call of a layer is not of the forward pass, or one of many that a solver makes."""
        return self.is_going_back or self.solving(layer)

    def read(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Measure what a layer is about to read; a tensor without gradient becomes a leaf that has one."""
        if self.skips(module):
            return args, kwargs
        with without_torch_function():
            x = next((tensor for tensor in tensors((args, kwargs)) if tensor.is_floating_point()), None)
            if x is None:
                self.reading.append(-1)
                return args, kwargs
            if not x.requires_grad:  # the batch, or what frozen weights made of it
                leaf = x.detach().requires_grad_()
                self.leaves.append(leaf)
                follows = leaf.clone()  # a clone, as layers may change a tensor in place, which a leaf forbids
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
        self.is_going_back = True
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
                elif outputs:
                    raise MinimandError("loss returned a tensor without a gradient, though the outputs have one.")
                output = (output, value)
            self.connected = reached_by(output)

    def _go_back(self, kind: str, starts: list[Tensor], times: int) -> None:
        """Take gradients of random combinations of the starts and keep the means of their squared norms."""
        self.gradients, self.starts = {}, starts
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        squares: dict[nn.Parameter, Tensor] = {}
        for _ in range(times if starts and (parameters or self.leaves) else 0):
            gradients = self._gradients(starts, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=False):
                if gradient is not None:
                    squares[parameter] = squares.get(parameter, 0) + _squared_norm(gradient)  # pyright: ignore[reportArgumentType]
        self.slot_gradients[kind] = {slot: value / times for slot, value in self.gradients.items()}
        self.parameter_gradients = {p: value / times for p, value in squares.items()} or self.parameter_gradients
        reached = Reached(starts)
        self.swallowed = tuple(p for p in parameters if reached.custom and p in reached.leaves and p not in squares)

    def _gradients(self, starts: list[Tensor], parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
        vectors = [torch.randn_like(start) if start.ndim else torch.ones_like(start) for start in starts]
        inputs = [*parameters, *self.leaves]
        return torch.autograd.grad(starts, inputs, vectors, retain_graph=True, allow_unused=True)

    def _slot(self, t: Tensor) -> int:
        """The number of a tensor as it is now; it is measured when first seen."""
        key = (id(t), version(t))
        if key not in self.slots:
            slot = self.slots[key] = len(self.tensors)
            self.tensors.append(t)
            self.signals.append(PendingSignal(t.detach(), self.samples))
            if t.requires_grad:
                t.register_hook(lambda gradient: self._add(slot, gradient))
        return self.slots[key]

    def _add(self, slot: int, gradient: Tensor | None) -> None:
        if gradient is None:  # a function with a backward of its own gave nothing
            return
        self.gradients[slot] = self.gradients.get(slot, 0) + _squared_norm(gradient)

    def result(self, model_trace: Trace) -> Measured:
        """The measurements of all layers, with one wait for the device."""
        if not self.signals:
            raise MinimandError(
                f"no layer of {type(self.model).__name__} ran on this batch, so there is nothing to say."
            )
        parameters = list(self.parameter_gradients)
        squares = [square for of in self.slot_gradients.values() for square in of.values()]
        squares += self.parameter_gradients.values()
        squares += [_squared_norm(p.detach()) for call in model_trace.calls for p in call.module.parameters()]
        device = self.signals[0].numbers.device
        numbers = iter(torch.cat([*(s.numbers.to(device) for s in self.signals), _stacked(squares, device)]).tolist())
        signals = [pending.read(numbers) for pending in self.signals]
        gradients = {kind: {slot: next(numbers) for slot in of} for kind, of in self.slot_gradients.items()}
        weights = {parameter: next(numbers) for parameter in parameters}
        stats = []
        for i, call in enumerate(model_trace.calls):
            norm = math.sqrt(sum(next(numbers) for _ in call.module.parameters()))
            stats.append(self._stat(i, model_trace.calls, signals, gradients, weights, norm))
        lost = [p for p in self.model.parameters() if p.requires_grad and not self._is_connected(p)]
        is_broken = any(stat.has_nan_gradient for stat in stats)
        return Measured(
            tuple(stats),
            model_trace,
            weights,
            self.samples,
            lost=tuple(lost),
            swallowed=self.swallowed,
            nan_function=self._origin_of_nan() if is_broken else None,
        )

    def _is_connected(self, t: Tensor) -> bool:
        """Whether a path leads back from the output to a tensor; as far as it is known."""
        return self.connected is None or t in self.connected

    def _origin_of_nan(self) -> str | None:
        """The function whose backward pass returns NaN first, as torch's own detection of anomalies names it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with torch.autograd.detect_anomaly(check_nan=True):
                    self._gradients(self.starts, [p for p in self.model.parameters() if p.requires_grad])
            except RuntimeError as error:
                named = re.match(r"Function '(\w+?)(Backward\d*)?' returned nan", str(error))
                return None if named is None else named[1]
        return None

    def _stat(
        self,
        i: int,
        calls: tuple[LayerCall, ...],
        signals: list[Signal],
        gradients: dict[str, dict[int, float]],
        weights: dict[nn.Parameter, float],
        parameter_norm: float,
    ) -> LayerStat:
        call, (read, wrote) = calls[i], self.pairs[i]
        follower = next((c for c in calls[i + 1 :] if i in c.after and self.pairs[c.index][0] >= 0), None)
        passed_on = Signal() if follower is None else signals[self.pairs[follower.index][0]]
        alone = follower is not None and len(follower.after) == 1  # else a gate, or a skip, has a part in it
        arriving = Signal() if read < 0 else signals[read]
        returned = Signal() if wrote < 0 else signals[wrote]
        entries = self.tensors[wrote].numel() if wrote >= 0 else 1
        gradient = self._weight_gradient(call.module, weights)

        def of(kind: str, slot: int, size: int) -> Reading:
            if slot < 0 or kind not in gradients:
                return NOT_MEASURED
            if slot in gradients[kind]:
                return gradients[kind][slot] / size
            return NOT_MEASURED if self._is_connected(self.tensors[slot]) else NO_GRADIENT

        def arrived(j: int, size: int = 1) -> Reading:
            return of("probe", self.pairs[j][0], size) if j < len(calls) else NOT_MEASURED

        return LayerStat(
            name=call.name.removeprefix("0") if calls[i].module is self.model else call.name,
            call_index=call.run,
            kind=type(call.module).__name__,
            activation=None if call.activation is None else str(call.activation),
            shape=self.shapes[i],
            mean=returned.mean,
            second_moment=returned.second,
            batch_std=NOT_MEASURED if isinstance(returned.variance, Missing) else math.sqrt(returned.variance),
            cosine=returned.cosine,
            nonfinite=returned.nonfinite,
            zero=passed_on.zero,
            dead=passed_on.dead,
            saturated=_saturated(call, passed_on) if alone else NOT_MEASURED,
            gradient=of("probe", wrote, entries),
            chi=ratio(arrived(i), arrived(i + 1)),
            loss_gradient=of("loss", wrote, entries),
            weight_gradient=gradient,
            update_ratio=ratio(gradient, parameter_norm),
            read_second_moment=arriving.second,
            read_cosine=arriving.cosine,
            read_token_cosine=arriving.token_cosine,
            read_gradient=arrived(i, max(self.samples, 1)),
        )

    def _weight_gradient(self, module: nn.Module, weights: dict[nn.Parameter, float]) -> Reading:
        """The norm of the gradient of all parameters of a layer, as far as they have one."""
        squares = [weights[p] for p in module.parameters() if p in weights]
        if squares:
            return math.sqrt(sum(squares))
        trained = [p for p in module.parameters() if p.requires_grad]
        return NOT_MEASURED if not trained or any(map(self._is_connected, trained)) else NO_GRADIENT


def _stacked(squares: list[Tensor], device: torch.device) -> Tensor:
    empty = torch.empty(0, dtype=wide(device), device=device)
    return torch.stack([square.to(device) for square in squares]) if squares else empty


def _saturated(call: LayerCall, passed_on: Signal) -> Reading:
    """The fraction at the ends of a bounded activation's range, where it has ends and does not jump between them."""
    if call.activation is None or call.activation.name == "sign" or isinstance(call.activation.function, Threshold):
        return NOT_MEASURED
    low, middle, high = call.activation.function(torch.tensor([-40.0, 0.3, 40.0], dtype=torch.double)).tolist()
    if abs(high - 1) > 1e-9 or not low < middle < high:
        return NOT_MEASURED
    return passed_on.near_one if abs(low + 1) < 1e-9 else passed_on.near_ends if abs(low) < 1e-9 else NOT_MEASURED


def _squared_norm(t: Tensor) -> Tensor:
    return torch.linalg.vector_norm(t.detach(), dtype=wide(t.device)).square()


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
