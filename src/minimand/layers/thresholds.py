"""Activations that are steps (Friesen & Domingos 2018)."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._support.checks import check_number
from .._support.errors import MinimandError, WrongTypeError
from .._support.names.registry import Registry, subclass_of


class Threshold(nn.Module):
    """An activation of equal steps at `jumps`, from `low` to `high`; a value at a jump is still below it.

    Its slope is 0 almost everywhere. Under `mm.TargetPropagation` its targets decide the gradient; under anything else,
    `mm.Backpropagation` too, it is saturated straight-through: that of the activation, where z is no farther than
    `window` from a jump.
    """

    window = 1.0
    rule: Callable[["Threshold", Tensor], Tensor] | None
    """A function of (threshold, z) that gives the activation instead, while `activations_by` sets one."""

    def __init__(self, low: float, high: float, jumps: tuple[float, ...]) -> None:
        super().__init__()
        self.low, self.high, self.jumps = low, high, jumps
        self.rule = None
        self._looked = False

    @property
    def levels(self) -> int:
        """The number of values that the activation has."""
        return len(self.jumps) + 1

    @property
    def unit(self) -> float:
        """The largest number of which all levels are whole multiples; 1 if it is less than half a step."""
        step = (self.high - self.low) / (self.levels - 1)
        whole = (unit for unit in (step, step / 2) if abs(math.remainder(self.low, unit)) < 1e-9)
        return next(whole, 1.0)

    def values(self, z: Tensor) -> Tensor:
        """The activation of z, without a gradient."""
        # In place, as what a comparison gives takes the dtype of z then: torch.where takes fifteen times as long.
        return self._scaled(z.detach().clone().gt_(self.jumps[0]))

    def forward(self, z: Tensor) -> Tensor:
        learning = torch.is_grad_enabled() and z.requires_grad
        if learning and not (self._looked or z.is_meta or torch.compiler.is_compiling()):
            self._look(z.detach())
        if self.rule is not None:
            return self.rule(self, z)
        return _StraightThrough.apply(z, self) if learning else self.values(z)  # pyright: ignore[reportReturnType]

    def _look(self, z: Tensor) -> None:
        self._looked = True  # the warning comes once, at the first batch in training
        if self.levels == 2 and z.numel() and z.min() >= self.jumps[0]:
            warnings.warn(
                f"no input of a {type(self).__name__}() is below its jump at {self.jumps[0]:g}: after an activation "
                "that is never negative it carries no information. Put it in the place of that activation, or a "
                "normalization between them.",
                stacklevel=4,
            )

    @property
    def reach(self) -> tuple[float, float]:
        """The least and the largest z that saturated straight-through gradients pass."""
        return self.jumps[0] - self.window, self.jumps[-1] + self.window

    def straight_through(self, z: Tensor, gradient: Tensor, width: float = 1.0) -> Tensor:
        """The saturated straight-through gradient: what of `gradient` goes on to z, within `width` times the reach."""
        low, high = self.reach
        beyond = (width - 1) * (high - low) / 2
        return gradient * ((z >= low - beyond) & (z <= high + beyond))

    def codes(self, h: Tensor) -> Tensor:
        """The number of jumps that are below, as bytes, from the activation."""
        return (h - self.low).mul_((self.levels - 1) / (self.high - self.low)).round_().to(torch.uint8)

    def from_codes(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """The inverse of `codes`, to the bit."""
        return self._scaled(codes.to(dtype))

    def _scaled(self, count: Tensor) -> Tensor:
        steps = self.levels - 1
        unit = count if steps == 1 else count.div_(steps)
        return unit if (self.low, self.high) == (0, 1) else unit.mul_(self.high - self.low).add_(self.low)


THRESHOLDS: Registry[type[Threshold]] = Registry("activation", "thresholds", "minimand.layers", subclass_of(Threshold))
"""The thresholds by name; those of other packages come by the entry points `minimand.thresholds`."""


@THRESHOLDS.register("sign")
class Sign(Threshold):
    """The sign of z: 1 where z > 0, else -1."""

    def __init__(self) -> None:
        super().__init__(-1.0, 1.0, (0.0,))


@THRESHOLDS.register("heaviside")
class Heaviside(Threshold):
    """The step from 0 to 1: 1 where z > 0, else 0."""

    def __init__(self) -> None:
        super().__init__(0.0, 1.0, (0.0,))

    @property
    def reach(self) -> tuple[float, float]:
        return 0.0, 1.0  # as in the publication, where steps go from 0 to 1


@THRESHOLDS.register("staircase")
class Staircase(Threshold):
    """Equal steps from `low` to `high`, the first at `low`, the last at `high`: one more level than steps.

    Straight-through gradients pass from `low` to `high`.
    """

    window = 0.0

    def __init__(self, steps: int, low: float = 0.0, high: float = 1.0) -> None:
        check_number("Staircase.steps", steps, 2, 255, whole=True)
        if not low < high:
            raise MinimandError(f"Staircase.low is {low} and Staircase.high {high}; expected low to be less than high.")
        super().__init__(low, high, tuple(low + (high - low) * i / (steps - 1) for i in range(steps)))

    def values(self, z: Tensor) -> Tensor:
        z, steps = z.detach(), self.levels - 1
        if (self.low, self.high) == (0, 1):
            return self._scaled((z * (steps - 1)).ceil_().clamp_(0, steps))
        return self._scaled(((z - self.low) * ((steps - 1) / (self.high - self.low))).ceil_().clamp_(0, steps))

    @property
    def steps(self) -> int:
        return len(self.jumps)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, low={self.low:g}, high={self.high:g}"


@THRESHOLDS.register("quantized_relu")
class QuantizedReLU(Staircase):
    """A ReLU cut off at 1, with a few levels: 4 are 0, 1/3, 2/3, 1 with jumps at 0, 1/2, 1 (two bits)."""

    def __init__(self, levels: int = 4) -> None:
        check_number("QuantizedReLU.levels", levels, 3, 256, whole=True)
        super().__init__(levels - 1)

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


@contextmanager
def activations_by(model: nn.Module, rule: Callable[[Threshold, Tensor], Tensor]) -> Iterator[None]:
    """A context in which the activation of a model's thresholds is `rule`, a function of (threshold, z)."""
    rules_before = [(module, module.rule) for module in model.modules() if isinstance(module, Threshold)]
    for threshold, _ in rules_before:
        threshold.rule = rule
    try:
        yield
    finally:
        for threshold, rule_before in rules_before:
            threshold.rule = rule_before


def as_threshold(activation: str | Threshold) -> Threshold:
    """The threshold of a name, with arguments as in `quantized_relu(levels=4)`; a threshold as it is."""
    if isinstance(activation, str):
        return THRESHOLDS.make(activation)
    if not isinstance(activation, Threshold):
        raise WrongTypeError(
            f"activation is {activation!r}; expected a threshold such as mm.Sign(), mm.Heaviside(), "
            "which is the step from 0 to 1, mm.QuantizedReLU() or mm.Staircase(steps), or the name of one: 'sign'."
        )
    return activation


def threshold_text(threshold: Threshold) -> str:
    """The text that `as_threshold` makes such a threshold of."""
    names = {kind: name for name, kind in THRESHOLDS.items()}
    arguments = threshold.extra_repr()
    return names.get(type(threshold), type(threshold).__name__) + (f"({arguments})" if arguments else "")


class Opaque(nn.Module):
    """A component without a derivative, which says instead which inputs would have been better.

    `module` is any function of a tensor, and may leave torch; parameters inside it are not trained. `targets` gives
    better inputs, of x's shape, from x, the output y and the gradient g that reached y. What is before it learns as if
    ||x - targets(x, y, g)||^2 / 2 were to fall.
    """

    def __init__(self, module: Callable[[Tensor], Tensor], targets: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(module) or not callable(targets):
            expected = "a function of a tensor and a function targets(x, y, g) of three tensors"
            raise WrongTypeError(f"Opaque takes {expected}.")
        self.module, self.targets = module, targets

    def forward(self, x: Tensor) -> Tensor:
        return _Opaque.apply(x, self)  # pyright: ignore[reportReturnType]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Threshold) -> Tensor:
        ctx.threshold = threshold
        ctx.save_for_backward(z)
        return threshold.values(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.threshold.straight_through(*ctx.saved_tensors, *gradients), None


class _Opaque(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, opaque: Opaque) -> Tensor:
        y = opaque.module(x.detach())
        if not isinstance(y, Tensor):
            raise WrongTypeError(f"the module of Opaque returned {type(y).__name__}; expected a tensor.")
        ctx.opaque = opaque
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, y = ctx.saved_tensors
        better = ctx.opaque.targets(x, y, *gradients)
        if not isinstance(better, Tensor) or better.shape != x.shape:
            shown = tuple(better.shape) if isinstance(better, Tensor) else type(better).__name__
            raise MinimandError(f"targets of Opaque gave {shown}; expected better inputs of shape {tuple(x.shape)}.")
        return x - better, None
