"""What a diagnosis measures on request: the Jacobian, the tangent kernel and the Hessian of a network as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from . import spectrum
from .tracing import undisturbed

# The whole spectrum of a Jacobian of so many inputs, else its largest values.
_WHOLE, _LARGEST = 1024, 6
_SAMPLES = 64


@dataclass(frozen=True)
class Curvature:
    """How steep the loss is in the weights."""

    kernel_largest: float
    """The largest eigenvalue of the neural tangent kernel."""
    kernel_condition: float
    largest_step: float
    """For gradient descent on half the mean squared error."""
    hessian: tuple[float, float] | None
    """The smallest and the largest eigenvalue of the Hessian of the loss; None without a target."""


def jacobian(model: nn.Module, batch: Any) -> tuple[float, ...]:
    """Singular values of the Jacobian from the first sample to its output in eval mode, largest first.

    All of them for up to 1,024 inputs, else the six largest.

    Raises:
        ValueError: the batch is not one floating-point tensor.
    """
    x = _only(batch, "jacobian")[:1]
    with undisturbed(model):
        model.eval()
        values = spectrum.singular_values(model, x, _LARGEST, "all" if x.numel() <= _WHOLE else "LM")
    return tuple(map(float, values))


def curvature(model: nn.Module, batch: Any, loss: Callable[[Tensor, Tensor], Tensor] | None, target: Any) -> Curvature:
    """Of up to 64 samples, in eval mode.

    Raises:
        ValueError: the batch is not one floating-point tensor. ModuleNotFoundError: there is a target, and the extra
        `curvature` is not installed.
    """
    x = _only(batch, "curvature")[:_SAMPLES]
    with undisturbed(model):
        model.eval()
        kernel = spectrum.ntk(model, x)
        hessian = None
        if loss is not None and target is not None:
            hessian = spectrum.hessian_extremes(model, loss, x, target[:_SAMPLES])
    return Curvature(kernel.largest, kernel.condition, kernel.largest_step, hessian)


def _only(batch: Any, argument: str) -> Tensor:
    if isinstance(batch, Tensor) and batch.is_floating_point():
        return batch
    what = f"a tensor of {batch.dtype}" if isinstance(batch, Tensor) else type(batch).__name__
    raise ValueError(f"{argument}=True needs a batch that is one floating-point tensor; it is {what}.")
