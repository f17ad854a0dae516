"""One pass through a network of thresholds: forward as they are, backward each from the loss of its own units."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...._support.errors import MinimandError
from ...._support.seeds import drawing_from, torch_state
from ....layers.thresholds import Heaviside, Threshold, activations_by
from ....networks.compiled import unwrapped
from ...loop.losses import Loss
from .saved_bits import Packed, Thrifty
from .search import SEARCHES, searched
from .unit_losses import TargetLoss, UnitLoss

TargetRule = Callable[[Tensor, Tensor], Tensor]
"""(z, g), with the gradient g of the loss above by the activation, to targets -1, 1, or 0 for "ignore"."""


@dataclass(frozen=True)
class Rules:
    """How targets are set, and what a unit loses by missing its own."""

    kind: str | UnitLoss
    loss: TargetLoss
    targets: str | TargetRule
    weighted: bool
    budget: int

    @property
    def published(self) -> bool:
        """Whether the target of a unit is -sign(g), its weight |g|."""
        return self.targets == "sign" and self.weighted


@dataclass
class Pass:
    """What the thresholds of one pass share. They are numbered in the order of execution."""

    rules: Rules
    model: nn.Module
    x: Tensor
    y: Tensor
    output_loss: Loss
    measuring: bool
    count: int = 0
    measured: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.thrifty = Thrifty()
        self._plain = unwrapped(self.model)
        self._searching = self.rules.targets in SEARCHES
        # Of each threshold by its number: what it gave, and its targets with their weights.
        self._gave: dict[int, Packed] = {}
        self._set: dict[int, tuple[Tensor, Tensor]] = {}
        if self._searching:
            # The state in which every trial begins too: the same dropout, the same statistics.
            self._random, self._buffers = torch_state(self.x.device), copied_buffers(self._plain)
            device = self.x.device.type
            self._autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def backward(self) -> tuple[Tensor, Tensor]:
        """Fill the `.grad` of every parameter; returns the loss and the outputs."""
        with self.running():
            outputs = self.model(self.x)
            value = self.output_loss(outputs, self.y)
        self.check()
        with torch.autocast(self.x.device.type, enabled=False):
            value.backward()
        return value.detach(), outputs.detach()

    def check(self) -> None:
        """Raise ValueError if there was no threshold."""
        if not self.count:
            raise MinimandError(
                f"{type(self._plain).__name__} has no thresholds to set targets for; mm.harden(model, mm.Sign()) puts "
                "them in the place of its activations, and mm.Backpropagation() trains it as it is."
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within it thresholds are part of the pass."""
        with activations_by(self._activation), self.thrifty.saving():
            yield

    def _activation(self, threshold: Threshold, z: Tensor) -> Tensor:
        number, self.count = self.count, self.count + 1
        learning = torch.is_grad_enabled() and z.requires_grad
        h = _Cut.apply(z, threshold, self, number) if learning else threshold.values(z)
        assert isinstance(h, Tensor)
        self.thrifty.note(h, threshold)
        if self._searching and number not in self._gave:
            self._gave[number] = Packed.of(h, threshold)
        return h

    def gradient(self, number: int, threshold: Threshold, z: Tensor, g: Tensor) -> Tensor:
        """What goes on to z."""
        at = _centred(self.rules.kind, threshold, z)
        if self.rules.published and self.rules.loss.linear:
            if self.measuring:
                self._measure(number, threshold, at, g.sign().neg_(), g.abs())
            return self._derivative(threshold, z, at, g).neg_()  # the target times its weight is -g
        t = self._targets(number, threshold, z, g)
        weight = g.abs() if self.rules.weighted else torch.full_like(g, 1 / len(self.x))
        if self.measuring:
            self._measure(number, threshold, at, t, weight)
        if self._searching:
            self._set[number] = t, weight
        return self._derivative(threshold, z, at, t).mul(weight)

    def _targets(self, number: int, threshold: Threshold, z: Tensor, g: Tensor) -> Tensor:
        targets = self.rules.targets
        if self._searching:
            if len(z) != len(self.x):
                raise MinimandError(
                    f"a threshold sees {tuple(z.shape)}; searched targets need the samples to come first."
                )
            h = self._gave[number].unpacked()
            return searched(targets, h, g, threshold, partial(self._loss_above, number), self.rules.budget)  # pyright: ignore
        if not callable(targets):
            return g.sign().neg_()
        t = targets(z, g)
        if not isinstance(t, Tensor) or t.shape != z.shape:
            raise MinimandError(f"targets gave no tensor of shape {tuple(z.shape)}; expected -1, 1 or 0 for each unit.")
        return t

    @torch.no_grad()
    def _loss_above(self, number: int, tried: Tensor) -> Tensor:
        """What each sample would lose in what reads a threshold, if that gave something else: (N,)."""
        losses: list[Tensor] = []
        count = 0

        def activation(threshold: Threshold, z: Tensor) -> Tensor:
            nonlocal count
            own, count = count, count + 1
            if own == number:
                return tried
            if own > number and own in self._set:
                t, weight = self._set[own]
                at = _centred(self.rules.kind, threshold, z)
                losses.append((self.rules.loss.value(at, t) * weight).flatten(1).sum(1))
            return self._gave[own].unpacked()

        enabled, dtype = self._autocast
        device = self.x.device
        with (
            activations_by(activation),
            drawing_from(device, self._random),
            torch.autocast(device.type, dtype, enabled),
        ):
            buffers = {name: buffer.clone() for name, buffer in self._buffers.items()}
            outputs = functional_call(self._plain, buffers, (self.x,))
        own = torch.stack([self.output_loss(o, y) for o, y in zip(outputs.split(1), self.y.split(1), strict=True)])
        whole = self.output_loss(outputs, self.y)
        # The share of each sample in the whole, whether that is a mean or a sum.
        return sum(losses, own * (whole / own.sum()).nan_to_num(0.0, 0.0, 0.0))

    def _derivative(self, threshold: Threshold, z: Tensor, at: Tensor, t: Tensor) -> Tensor:
        if self.rules.kind == "saturated_hinge" and (threshold.levels > 2 or isinstance(threshold, Heaviside)):
            return threshold.straight_through(z, -t)
        return self.rules.loss.derivative(at, t)

    def _measure(self, number: int, threshold: Threshold, z: Tensor, t: Tensor, weight: Tensor) -> None:
        name = next((name for name, m in self._plain.named_modules() if m is threshold), "")
        missed = (torch.where(z > 0, 1, -1) != t) & (t != 0)
        by_unit = missed.transpose(0, 1).flatten(1).any(1) if missed.ndim > 1 else missed
        shares = torch.stack([(self.rules.loss.value(z, t) * weight).sum(), missed.sum(), by_unit.sum()]).tolist()
        name = f"{name}, again" if any(name == other for _, other in self.measured) else name
        self.measured[number, name] = {
            "loss": shares[0],
            "flipped": shares[1] / missed.numel(),
            "met": 1 - shares[2] / by_unit.numel(),
        }


def copied_buffers(module: nn.Module) -> dict[str, Tensor]:
    """For `functional_call`, so that running statistics stay as they are."""
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def _centred(loss: str | UnitLoss, threshold: Threshold, z: Tensor) -> Tensor:
    """The input that the loss looks at: a step's as it is; of a staircase the published soft hinge is that of 2u - 1.

    The factor 2 is not part of the derivative, as published.
    """
    if threshold.levels == 2 or loss == "linear":
        return z
    low, high = threshold.jumps[0], threshold.jumps[-1]
    return (z - low) * (2 / (high - low)) - 1


class _Cut(torch.autograd.Function):
    """The activation forward; backward the gradient of the losses of its units."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Threshold, run: Pass, number: int) -> Tensor:
        ctx.number, ctx.threshold, ctx.run = number, threshold, run
        ctx.save_for_backward(z)
        return threshold.values(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        return ctx.run.gradient(ctx.number, ctx.threshold, z, *gradients), None, None, None
