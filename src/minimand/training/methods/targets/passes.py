"""One step of target propagation: thresholds run as they are, and go backward by the losses of their own units."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...._support.clock import timed
from ...._support.errors import MinimandError
from ...._support.torch.internals import TreeSpec, tree_flatten, tree_unflatten
from ...._support.torch.seeds import drawing_from, torch_state
from ....equilibrium import Equilibrium
from ....layers.thresholds import Heaviside, Threshold, activations_by
from ....networks import as_network
from ....networks.compiled import unwrapped
from ...loop.losses import Loss
from ..method import descend
from .saved_bits import PackedActivation, SavedActivations, unpacked
from .search import SEARCHES, Search, searched
from .unit_losses import UnitLoss

TargetRule = Callable[[Tensor, Tensor], Tensor]
"""A function of inputs z and the gradient g by the activation that gives targets: -1, 1, or 0 for "ignore"."""


@dataclass(frozen=True)
class TargetRules:
    """How the targets of threshold units are set, and what a unit loses by missing its target."""

    loss: UnitLoss
    targets: str | TargetRule
    weighted: bool
    """Whether the loss of a unit is weighted by |g|, and not by one over the batch size."""
    budget: int
    width: float = 1.0
    """The width of the loss, which is in `loss` already: a staircase's saturated hinge is not by its derivative."""


class TargetPass:
    """A pass of a batch through a model and back; thresholds are numbered as they run, one that runs twice twice."""

    def __init__(
        self, rules: TargetRules, model: nn.Module, x: Tensor, y: Tensor, output_loss: Loss, measuring: bool
    ) -> None:
        self.rules, self.model, self.x, self.y = rules, model, x, y
        self.output_loss, self.measuring = output_loss, measuring
        self.count = 0
        self.measured: dict[tuple[int, str], dict[str, float]] = {}
        self.saved = SavedActivations()
        self._module = unwrapped(model)
        self._searching = rules.targets in SEARCHES
        self._check_equilibria()
        # By the number of the threshold: its activation, and its targets with their weights.
        self._activations: dict[int, PackedActivation] = {}
        self._targets: dict[int, tuple[Tensor, Tensor]] = {}
        if self._searching:
            # The state in which every trial begins too: the same dropout, the same statistics.
            self._random, self._buffers = torch_state(x.device), copied_buffers(self._module)
            kind = x.device.type
            enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
            self._autocast = partial(torch.autocast, kind, dtype, enabled)

    def backward(self) -> tuple[Tensor, Tensor]:
        """Fill the `.grad` of every parameter; returns the loss and the outputs."""
        with self.running():
            outputs = self.model(self.x)
            value = self.output_loss(outputs, self.y)
        self.check()
        return descend(value, outputs)

    def check(self) -> None:
        """Raise MinimandError if the model ran through no threshold."""
        if not self.count:
            raise MinimandError(
                f"{type(self._module).__name__} has no thresholds to set targets for; mm.harden(model, mm.Sign()) puts "
                "them in the place of its activations, and mm.Backpropagation() trains it as it is."
            )

    def _check_equilibria(self) -> None:
        """Raise MinimandError for thresholds in an equilibrium, unless their gradient is linear, as its solve takes."""
        if self.rules.targets == "sign" and self.rules.weighted and self.rules.loss.linear:
            return
        layers = [part for part in self._module.modules() if isinstance(part, Equilibrium)]
        if any(isinstance(part, Threshold) for layer in layers for part in layer.modules()):
            raise MinimandError(
                f"{type(self._module).__name__} has thresholds in an equilibrium, whose gradient solves a linear "
                "equation, and with these targets that of a threshold is not linear; expected targets='sign', "
                "weighting='gradient' and a loss such as 'soft_hinge'."
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context in which thresholds are part of the pass."""
        with activations_by(self._module, self._activation), self.saved.saving():
            yield

    def _activation(self, threshold: Threshold, z: Tensor) -> Tensor:
        number, self.count = self.count, self.count + 1
        learning = torch.is_grad_enabled() and z.requires_grad
        h = cast(Tensor, _TargetActivation.apply(z, threshold, self, number)) if learning else threshold.values(z)
        self.saved.register(h, threshold)
        if self._searching and number not in self._activations:
            self._activations[number] = PackedActivation.of(h, threshold)
        return h

    def gradient(self, number: int, threshold: Threshold, z: Tensor, g: Tensor) -> Tensor:
        """The gradient by the input z of a threshold, from the gradient g by its activation."""
        loss_input = _loss_input(self.rules.loss, threshold, z)
        if self.rules.targets == "sign" and self.rules.weighted and self.rules.loss.linear:
            if self.measuring:
                self._measure(number, threshold, loss_input, g.sign().neg_(), g.abs())
            return self._derivative(threshold, z, loss_input, g).neg_()  # the target times its weight is -g
        t = self._targets_for(number, threshold, z, g)
        weight = g.abs() if self.rules.weighted else torch.full_like(g, 1 / len(self.x))
        if self.measuring:
            self._measure(number, threshold, loss_input, t, weight)
        if self._searching:
            self._targets[number] = t, weight
        return self._derivative(threshold, z, loss_input, t).mul(weight)

    def _targets_for(self, number: int, threshold: Threshold, z: Tensor, g: Tensor) -> Tensor:
        targets = self.rules.targets
        if self._searching:
            if len(z) != len(self.x):
                shape = tuple(z.shape)
                raise MinimandError(f"a threshold sees {shape}; searched targets need the samples to come first.")
            h, loss_above = self._activations[number].unpacked(), partial(self._loss_above, number)
            return searched(cast(Search, targets), h, g, threshold, loss_above, self.rules.budget)
        if not callable(targets):
            return g.sign().neg_()
        t = targets(z, g)
        if not isinstance(t, Tensor) or t.shape != z.shape:
            raise MinimandError(f"targets gave no tensor of shape {tuple(z.shape)}; expected -1, 1 or 0 for each unit.")
        return t

    @torch.no_grad()
    def _loss_above(self, number: int, tried: Tensor) -> Tensor:
        """The loss of each sample (N,) in what reads a threshold, were `tried` its activation."""
        losses: list[Tensor] = []
        count = 0

        def activation(threshold: Threshold, z: Tensor) -> Tensor:
            nonlocal count
            running, count = count, count + 1
            if running == number:
                return tried
            if running > number and running in self._targets:
                t, weight = self._targets[running]
                loss_input = _loss_input(self.rules.loss, threshold, z)
                losses.append((self.rules.loss.value(loss_input, t) * weight).flatten(1).sum(1))
            return self._activations[running].unpacked()

        buffers = {name: buffer.clone() for name, buffer in self._buffers.items()}
        with activations_by(self._module, activation), drawing_from(self.x.device, self._random), self._autocast():
            outputs = functional_call(self._module, buffers, (self.x,))
        pairs = zip(outputs.split(1), self.y.split(1), strict=True)
        by_sample = torch.stack([self.output_loss(output, y) for output, y in pairs])
        total, whole = by_sample.sum(), self.output_loss(outputs, self.y)
        # The share of each sample in the loss of the batch, whether that is a mean or a sum.
        return sum(losses, by_sample * torch.where(total == 0, 0.0, whole / total))

    def _derivative(self, threshold: Threshold, z: Tensor, loss_input: Tensor, t: Tensor) -> Tensor:
        is_step = threshold.levels == 2 and not isinstance(threshold, Heaviside)
        if self.rules.loss.name == "saturated_hinge" and not is_step:
            return threshold.straight_through(z, -t, self.rules.width)
        return self.rules.loss.derivative(loss_input, t)

    def _measure(self, number: int, threshold: Threshold, loss_input: Tensor, t: Tensor, weight: Tensor) -> None:
        name = next((name for name, module in self._module.named_modules() if module is threshold), "")
        missed = (torch.where(loss_input > 0, 1, -1) != t) & (t != 0)
        by_unit = missed.transpose(0, 1).flatten(1).any(1) if missed.ndim > 1 else missed
        loss = (self.rules.loss.value(loss_input, t) * weight).sum()
        loss, missed_count, unmet_units = torch.stack([loss, missed.sum(), by_unit.sum()]).tolist()
        if any(name == measured_name for _, measured_name in self.measured):
            name = f"{name}, again"
        flipped, met = missed_count / missed.numel(), 1 - unmet_units / by_unit.numel()
        self.measured[number, name] = {"loss": loss, "flipped": flipped, "met": met}


def copied_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers of a module for `functional_call`, so that running statistics stay as they are."""
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def _loss_input(loss: UnitLoss, threshold: Threshold, z: Tensor) -> Tensor:
    # Of a staircase the published soft hinge is that of 2u - 1; the factor 2 is not part of its derivative.
    if threshold.levels == 2 or loss.name == "linear":
        return z
    low, high = threshold.jumps[0], threshold.jumps[-1]
    return (z - low) * (2 / (high - low)) - 1


class _TargetActivation(torch.autograd.Function):
    """A threshold forward; backward the gradient of the losses of its units."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Threshold, target_pass: TargetPass, number: int) -> Tensor:
        ctx.number, ctx.threshold, ctx.target_pass = number, threshold, target_pass
        ctx.save_for_backward(z)
        return threshold.values(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        return ctx.target_pass.gradient(ctx.number, ctx.threshold, z, *gradients), None, None, None


@dataclass(frozen=True)
class _Piece:
    """A piece of a network, and what is needed to run it again."""

    module: nn.Module
    thresholds_before: int
    random: dict[str, Tensor]
    inputs: Sequence[Tensor | PackedActivation]
    form: TreeSpec

    def run(self, target_pass: TargetPass) -> tuple[list[Tensor], list[Tensor]]:
        """The inputs of the piece, cut off from what is before, and its outputs; within `TargetPass.running`."""
        target_pass.count = self.thresholds_before
        inputs = [_leaf(saved, target_pass) for saved in self.inputs]
        outputs: Any = self.module(tree_unflatten(inputs, self.form))
        return inputs, tree_flatten(outputs)[0]


def backward_by_pieces(target_pass: TargetPass) -> tuple[Tensor, Tensor]:
    """Fill the `.grad` of every parameter by stem, layers and head; returns the loss and the outputs.

    Buffers such as running statistics move once, and what is drawn is the same twice.
    """
    network, device = as_network(target_pass.model, target_pass.x), target_pass.x.device
    pieces: list[_Piece] = []
    state: Any = target_pass.x
    with target_pass.running(), torch.no_grad():
        for module in (network.stem, *network.layers, network.head):
            leaves, form = tree_flatten(state)
            inputs = [target_pass.saved.pack(leaf) for leaf in leaves]
            del leaves
            pieces.append(_Piece(module, target_pass.count, torch_state(device), inputs, form))
            if module is not network.head:
                # On a copy: the buffers have to be here as they are when the second pass, which moves them, begins.
                state = functional_call(module, copied_buffers(module), (state,))
    del state
    with target_pass.running():
        inputs, (outputs,) = pieces.pop().run(target_pass)
        value = target_pass.output_loss(outputs, target_pass.y)
    target_pass.check()
    _backward([value], [torch.ones_like(value)], device)
    while pieces:
        gradients = [leaf.grad for leaf in inputs]
        with target_pass.running(), drawing_from(device, pieces[-1].random):
            inputs, states = pieces.pop().run(target_pass)
        _backward(states, gradients, device)
    return value.detach(), outputs.detach()


def _leaf(saved: Tensor | PackedActivation, target_pass: TargetPass) -> Tensor:
    if saved is target_pass.x:
        return target_pass.x
    tensor = unpacked(saved).detach()
    if isinstance(saved, PackedActivation):
        target_pass.saved.register(tensor, saved.threshold)
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


@timed("backward")
def _backward(outputs: Sequence[Tensor], gradients: Sequence[Tensor | None], device: torch.device) -> None:
    pairs = [(y, g) for y, g in zip(outputs, gradients, strict=True) if y.requires_grad and g is not None]
    if pairs:
        with torch.autocast(device.type, enabled=False):
            torch.autograd.backward([y for y, _ in pairs], [g for _, g in pairs])
