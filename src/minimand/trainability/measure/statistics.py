"""What one forward and one backward pass say of each layer."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ..._support.torch_internals import tree_leaves, tree_map, version, without_torch_function
from ...networks.kinds import layers
from .flow import Call, first_output
from .signals import UNKNOWN, Signal, saturated, signal, squared_norm, wide
from .tracing import Trace, measured, trace, undisturbed

Loss = str | Callable[..., Tensor]
"""A name, or a function of (outputs, targets), or of the outputs alone where there is no target."""

_NAMED = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}


@dataclass(frozen=True)
class LayerStat:
    """One run of a layer; what could not be measured is nan.

    Gradients are of <v, x>, where x is what the last layer reads and v is drawn from N(0, I): no loss has a part in
    them. Second moments are means over all entries.
    """

    name: str
    call_index: int
    """How often this layer ran before."""
    kind: str
    activation: str | None
    """The first that its output reaches."""
    shape: tuple[int, ...]
    """Of its output."""
    mean: float
    second_moment: float
    batch_std: float
    """The deviation over the samples, as a root mean square over units: 0 where all samples look alike."""
    cosine: float
    """The mean over pairs of samples."""
    nonfinite: float
    """A fraction of its output."""
    zero: float
    """A fraction of what it gives to the next layer, after the activation."""
    dead: float
    """The fraction of units that are 0 there for every sample."""
    saturated: float
    """The fraction within a hundredth of the ends of a bounded activation."""
    gradient: float
    """The second moment of the gradient of its output."""
    chi: float
    """The factor of the squared gradient from what the next layer reads to what it reads."""
    loss_gradient: float
    """As `gradient`, of the loss."""
    weight_gradient: float
    """The norm over its parameters: of the loss where one was given."""
    update_ratio: float
    """The same, over the norm of the parameters."""
    read_second_moment: float
    """Of what it reads: the signal that arrives."""
    read_cosine: float
    read_gradient: float
    """The squared norm per sample of the gradient of what it reads."""
    expected_second_moment: float = math.nan
    """What mean-field theory says, from the first layer on; nan where it does not apply."""
    expected_cosine: float = math.nan
    expected_chi: float = math.nan

    @property
    def blocked(self) -> bool:
        """Whether a gradient of it is exactly 0."""
        return 0.0 in (self.weight_gradient, self.gradient, self.read_gradient)

    @property
    def cut(self) -> bool:
        """Whether its signal passes on but no gradient comes back."""
        return self.gradient == 0 and self.dead < 0.5


@dataclass(frozen=True)
class Measured:
    """The layers of a model in the order they ran."""

    layers: tuple[LayerStat, ...]
    trace: Trace
    gradients: dict[nn.Parameter, float]
    """The squared norm for each parameter that has one."""
    samples: int
    """0 where no layer read a floating-point tensor."""


def measure(
    model: nn.Module, batch: Any, loss: Loss | None = None, target: Any = None, probes: int = 1, at_output: bool = False
) -> Measured:
    """Run a batch forward and backward and measure each layer; nothing of the model is changed.

    Dropout is off and normalization uses the batch. `at_output` starts the gradient at the model's output instead of
    at what its last layer reads.
    """
    recorder = _Recorder(model, loss, target, probes, at_output)
    root = nn.Sequential(model) if model in layers(model).values() else model
    batch = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, batch)
    with undisturbed(model), torch.enable_grad(), ExitStack() as stack:
        measured(model)
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):  # cuDNN's cannot go back in eval mode
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        for module in layers(model).values():
            stack.callback(module.register_forward_pre_hook(recorder.read, with_kwargs=True).remove)
        stack.callback(root.register_forward_hook(recorder.backward).remove)
        seen = trace(root, batch, recorder.wrote)
    return recorder.result(seen)


class _Recorder:
    """Measures tensors as they pass, each once, and their gradients as they come back."""

    def __init__(self, model: nn.Module, loss: Loss | None, target: Any, probes: int, at_output: bool) -> None:
        self.model, self.loss, self.target, self.probes, self.at_output = model, loss, target, probes, at_output
        self.samples = 0
        self.slots: dict[tuple[int, int], int] = {}
        self.tensors: list[Tensor] = []  # kept: a number of a tensor that is gone may be given again
        self.signals: list[Tensor] = []
        self.sizes: list[int] = []
        self.gradients: dict[int, Tensor] = {}
        self.leaves: list[Tensor] = []
        self.reading: list[int] = []
        self.pairs: list[tuple[int, int]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.found: dict[str, dict[int, Tensor]] = {}
        self.weights: dict[nn.Parameter, Tensor] = {}

    def read(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        with without_torch_function():
            x = _first(args, kwargs)
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

    def wrote(self, call: Call, output: Tensor) -> None:
        self.shapes.append(tuple(output.shape))
        self.pairs.append((self.reading.pop(), self._slot(output) if output.is_floating_point() else -1))

    def backward(self, _: nn.Module, args: Any, output: Any) -> None:
        with without_torch_function():
            outputs = [t for t in _tensors(output) if t.is_floating_point() and t.requires_grad]
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
        self.gradients = {}
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        inputs = [*parameters, *self.leaves]
        squares: dict[nn.Parameter, Tensor] = {}
        for _ in range(times if starts and inputs else 0):
            vectors = [torch.randn_like(start) if start.ndim else torch.ones_like(start) for start in starts]
            found = torch.autograd.grad(starts, inputs, vectors, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(parameters, found, strict=False):
                if gradient is not None:
                    squares[parameter] = squares.get(parameter, 0) + squared_norm(gradient)  # pyright: ignore[reportArgumentType]
        self.found[kind] = {slot: value / times for slot, value in self.gradients.items()}
        self.weights = {p: value / times for p, value in squares.items()} or self.weights

    def _slot(self, t: Tensor) -> int:
        """The number of a tensor as it is now; it is measured when first seen."""
        key = (id(t), version(t))
        if key not in self.slots:
            slot = self.slots[key] = len(self.tensors)
            self.tensors.append(t)
            self.sizes.append(t.numel())
            self.signals.append(signal(t.detach(), self.samples))
            if t.requires_grad:
                t.register_hook(lambda gradient: self._add(slot, gradient))
        return self.slots[key]

    def _add(self, slot: int, gradient: Tensor) -> None:
        self.gradients[slot] = self.gradients.get(slot, 0) + squared_norm(gradient)

    def result(self, trace: Trace) -> Measured:
        """Everything on one wait for the device."""
        calls = trace.calls
        kinds = [[found.get(i) for i in range(len(self.tensors))] for found in self.found.values()]
        norms = [p.detach() for call in calls for p in call.module.parameters()]
        device = self.signals[0].device
        one_by_one = [v for kind in kinds for v in kind] + [self.weights.get(p) for p in self.model.parameters()]
        one_by_one += [squared_norm(p) for p in norms]
        nan = torch.full((), math.nan, dtype=wide(device), device=device)
        flat = torch.cat(
            [
                torch.cat([s.to(device) for s in self.signals]),
                torch.stack([nan if v is None else v.to(device) for v in one_by_one]),
            ]
        ).tolist()
        numbers = iter(flat)
        signals = [Signal(*(next(numbers) for _ in range(9))) for _ in self.tensors]
        gradients = {kind: [next(numbers) for _ in self.tensors] for kind in self.found}
        weights = {p: next(numbers) for p in self.model.parameters()}
        sizes = [[next(numbers) for _ in call.module.parameters()] for call in calls]
        return Measured(
            tuple(self._stat(i, calls, signals, gradients, weights, sizes[i]) for i in range(len(calls))),
            trace,
            {p: value for p, value in weights.items() if not math.isnan(value)},
            self.samples,
        )

    def _stat(
        self,
        i: int,
        calls: tuple[Call, ...],
        signals: list[Signal],
        gradients: dict[str, list[float]],
        weights: dict[nn.Parameter, float],
        sizes: list[float],
    ) -> LayerStat:
        call, (read, wrote) = calls[i], self.pairs[i]
        follower = next((c for c in calls[i + 1 :] if i in c.after and self.pairs[c.index][0] >= 0), None)
        given = UNKNOWN if follower is None else signals[self.pairs[follower.index][0]]
        alone = follower is not None and len(follower.after) == 1  # else a gate, or a skip, has a part in it
        own, arriving = (UNKNOWN if slot < 0 else signals[slot] for slot in (read, wrote)[::-1])
        squares = [weights[p] for p in call.module.parameters() if not math.isnan(weights[p])]
        gradient = math.sqrt(sum(squares)) if squares else math.nan

        def of(kind: str, slot: int) -> float:
            return gradients[kind][slot] if slot >= 0 and kind in gradients else math.nan

        def arrived(j: int) -> float:
            return of("probe", self.pairs[j][0]) if j < len(calls) else math.nan

        entries = self.sizes[wrote] if wrote >= 0 else 1
        return LayerStat(
            name=call.name.removeprefix("0") if calls[i].module is self.model else call.name,
            call_index=call.run,
            kind=type(call.module).__name__,
            activation=None if call.activation is None else str(call.activation),
            shape=self.shapes[i],
            mean=own.mean,
            second_moment=own.second,
            batch_std=math.sqrt(own.variance) if own.variance >= 0 else math.nan,
            cosine=own.cosine,
            nonfinite=own.nonfinite,
            zero=given.zero,
            dead=given.dead,
            saturated=saturated(call, given) if alone else math.nan,
            gradient=of("probe", wrote) / entries,
            chi=_ratio(arrived(i), arrived(i + 1)),
            loss_gradient=of("loss", wrote) / entries,
            weight_gradient=gradient,
            update_ratio=_ratio(gradient, math.sqrt(sum(sizes))),
            read_second_moment=arriving.second,
            read_cosine=arriving.cosine,
            read_gradient=arrived(i) / max(self.samples, 1),
        )


def _loss_of(loss: Loss | None, output: Any, target: Any) -> Tensor:
    if callable(loss):
        value = loss(output) if target is None else loss(output, target)
    else:
        if target is None:
            raise MinimandError(
                f"loss is {loss!r} but there is no target; expected target=, what the outputs should be."
            )
        value = as_function(loss, target)(output, target)
    if not isinstance(value, Tensor) or value.ndim:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise WrongTypeError(f"loss returned {what}; expected a scalar tensor: the mean over the batch.")
    return value


def as_function(loss: Loss | None, target: Any) -> Callable[..., Tensor]:
    """The loss as a function of output and target, by default what suits the target.

    Raises:
        ValueError, TypeError: an unknown name; a target that is no tensor.
    """
    if callable(loss):
        return loss
    if loss is not None and loss not in _NAMED:
        raise unknown_name("loss", str(loss), _NAMED)
    if not isinstance(target, Tensor):
        raise WrongTypeError(f"target is {type(target).__name__}; expected a tensor, or loss=, a function of it.")
    named = _NAMED[loss or ("mse" if target.is_floating_point() else "cross_entropy")]
    return lambda output, target: named(first_output(output), target)


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _first(*containers: Any) -> Tensor | None:
    return next((t for t in _tensors(containers) if t.is_floating_point()), None)


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
