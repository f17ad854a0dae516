"""The Jacobian, the tangent kernel and the Hessian of a network as it is, which a diagnosis measures on request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..._support.torch_internals import tree_map
from ..measure.flow import first_output, tensors
from ..measure.tracing import arguments, undisturbed
from ..spectrum.curvature import hessian_extremes, ntk
from ..spectrum.jacobian import singular_values

# Up to so many inputs or outputs all singular values of a Jacobian are computed, else the largest.
_WHOLE, _LARGEST = 1024, 6
_SAMPLES = 64


@dataclass(frozen=True)
class Curvature:
    """How steep the outputs and the loss are in the weights."""

    kernel_largest: float
    """The largest eigenvalue of the neural tangent kernel."""
    kernel_condition: float
    largest_step: float
    """The largest stable step of gradient descent on half the mean squared error."""
    hessian: tuple[float, float] | None
    """The smallest and the largest eigenvalue of the Hessian of the loss; None without a target."""


def jacobian(model: nn.Module, batch: Any, samples: int) -> tuple[float, ...]:
    """Singular values of the Jacobian at the first sample of a batch, in eval mode, largest first.

    The Jacobian goes from the first floating-point input, or what the first embedding makes of its tokens, to the
    first output. All singular values where there are up to 1,024 inputs or outputs, else the six largest.

    Raises:
        ValueError: neither a floating-point input nor an embedding.
    """

    def first(leaf: Any) -> Any:
        axis = next((i for i in range(min(leaf.ndim, 2)) if leaf.shape[i] == samples), None)
        return leaf if axis is None else leaf.narrow(axis, 0, 1)

    one = tree_map(lambda leaf: first(leaf) if isinstance(leaf, Tensor) else leaf, arguments(batch))
    with undisturbed(model):
        model.eval()
        function, x = _function(model, *one)
        with torch.no_grad():
            outputs = function(x).numel()
        which = "all" if min(x.numel(), outputs) <= _WHOLE else "LM"
        return tuple(map(float, singular_values(function, x, _LARGEST, which)))


def _function(model: nn.Module, args: Any, kwargs: Any) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The model as a function of one floating-point tensor, and that tensor."""
    x = next((tensor for tensor in tensors((args, kwargs)) if tensor.is_floating_point()), None)
    if x is not None:

        def of_input(value: Tensor) -> Tensor:
            positional, named = tree_map(lambda leaf: value if leaf is x else leaf, (args, kwargs))
            return first_output(model(*positional, **named))

        return of_input, x
    outputs = _embedded(model, args, kwargs)
    if not outputs:
        kinds = ", ".join(sorted({str(tensor.dtype) for tensor in tensors((args, kwargs))}))
        raise MinimandError(
            f"jacobian=True needs a floating-point input, or an nn.Embedding that reads the tokens; the batch is of "
            f"{kinds} and {type(model).__name__} has none."
        )

    def of_embedding(value: Tensor) -> Tensor:
        return first_output(_embedded(model, args, kwargs, value)[-1])

    return of_embedding, outputs[0].detach()


def _embedded(model: nn.Module, args: Any, kwargs: Any, instead: Tensor | None = None) -> list[Any]:
    """The outputs of the embeddings of a model, then its own; `instead` takes the place of the first embedding's."""
    outputs: list[Any] = []

    def look(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        outputs.append(output if outputs or instead is None else instead)
        return outputs[-1]

    modules = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    handles = [module.register_forward_hook(look) for module in modules]
    try:
        output = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return [*outputs, output] if outputs else []


def curvature(model: nn.Module, batch: Any, loss: Callable[[Any, Tensor], Tensor] | None, target: Any) -> Curvature:
    """The curvature of a model on up to 64 samples, in eval mode.

    Raises:
        ValueError: the batch is not one tensor.
        ModuleNotFoundError: there is a target, and the extra `curvature` is not installed.
    """
    if not isinstance(batch, Tensor):
        raise MinimandError(f"curvature=True needs a batch that is one tensor; it is {type(batch).__name__}.")
    x = batch[:_SAMPLES]
    with undisturbed(model):
        model.eval()
        kernel = ntk(model, x)
        hessian = None
        if loss is not None and target is not None:
            hessian = hessian_extremes(model, loss, x, target[:_SAMPLES])
    return Curvature(kernel.largest, kernel.condition, kernel.largest_step, hessian)
