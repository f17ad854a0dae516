"""The neural tangent kernel of a model on some samples, and the Hessian of its loss (extra `curvature`)."""

import math
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._support.errors import MinimandError
from ..._support.extras import require
from ...networks.undisturbed import buffers_back, undisturbed
from ..measure.flow import first_output

# The most samples of a batch on which a diagnosis measures.
_SAMPLES = 64


@dataclass(frozen=True)
class TangentKernel:
    """The neural tangent kernel of some samples: inner products of the gradients of the output."""

    references: ClassVar = ("jacot2018neural",)
    kernel: np.ndarray
    largest: float
    condition: float
    """The largest over the smallest eigenvalue; inf where that is 0 to rounding."""

    @property
    def largest_step(self) -> float:
        """The step size up to which gradient descent on half the mean squared error over these samples is stable."""
        return 2 * len(self.kernel) / self.largest if self.largest else math.inf


def ntk(model: nn.Module, x: Tensor) -> TangentKernel:
    """The tangent kernel of a model on the samples of x, along one direction of its output, drawn the same each time.

    One backward pass per sample, of which there are two or more; samples times parameters are held in memory. The model
    runs in the mode it is in, and its buffers are left as they were.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if len(x) < 2 or not parameters:
        raise MinimandError(
            f"x has {len(x)} samples and the model {len(parameters)} parameters; at least 2 and 1 are needed."
        )
    with torch.enable_grad(), ExitStack() as put_back:
        put_back.callback(buffers_back(model))
        y = first_output(model(x)).flatten(1)
        along = torch.randn(y.shape[1], generator=torch.Generator().manual_seed(0)).to(y)
        outputs = y @ (along / along.norm())
        rows = [torch.autograd.grad(o, parameters, retain_graph=True, allow_unused=True) for o in outputs]
    zeros = [torch.zeros_like(p) for p in parameters]
    filled = [[zero if g is None else g for g, zero in zip(row, zeros, strict=True)] for row in rows]
    gradients = torch.stack([torch.cat([g.flatten() for g in row]) for row in filled]).double()
    kernel = (gradients @ gradients.T).cpu().numpy()
    values = np.linalg.eigvalsh(kernel)
    rounding = torch.finfo(parameters[0].dtype).eps * len(values) * values[-1]
    ratio = float(values[-1] / values[0]) if values[0] > rounding else math.inf
    return TangentKernel(kernel, float(values[-1]), ratio)


class _BatchLoss(nn.Module):
    """A loss function as curvlinops wants it: a module that is the mean over the one batch."""

    reduction = "mean"

    def __init__(self, loss: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, prediction: Any, target: Tensor) -> Tensor:
        return self.loss(prediction, target)


def hessian_extremes(
    model: nn.Module, loss: Callable[[Any, Tensor], Tensor], x: Tensor, target: Tensor
) -> tuple[float, float]:
    """The smallest and the largest eigenvalue of the Hessian of the loss of a batch, by curvlinops (extra `curvature`).

    Gradient descent is stable near a minimum for steps below 2 / largest. The model must say the same twice: put it in
    `eval` mode if it has dropout.
    """
    from scipy.sparse.linalg import eigsh

    parameters = [p for p in model.parameters() if p.requires_grad]
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        warnings.simplefilter("ignore", DeprecationWarning)  # of a package that it brings, and torch's forward mode
        curvlinops = require("curvlinops", "curvature", "to find eigenvalues of the Hessian")
        hessian = curvlinops.HessianLinearOperator(model, _BatchLoss(loss), parameters, [(x, target)]).to_scipy()
        start = np.random.default_rng(0).standard_normal(hessian.shape[0])
        options: dict[str, Any] = {"v0": start, "tol": 1e-4, "return_eigenvectors": False}
        smallest, largest = (eigsh(hessian, 1, which=end, **options)[0] for end in ("SA", "LA"))
    return float(smallest), float(largest)


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


def curvature(model: nn.Module, batch: Any, loss: Callable[[Any, Tensor], Tensor] | None, target: Any) -> Curvature:
    """The curvature of a model on up to 64 samples of a batch that is one tensor, in eval mode."""
    if not isinstance(batch, Tensor):
        raise MinimandError(f"curvature=True needs a batch that is one tensor; it is {type(batch).__name__}.")
    x = batch[:_SAMPLES]
    with undisturbed(model):
        model.eval()
        kernel, hessian = ntk(model, x), None
        if loss is not None and target is not None:
            hessian = hessian_extremes(model, loss, x, target[:_SAMPLES])
    return Curvature(kernel.largest, kernel.condition, kernel.largest_step, hessian)
