"""The neural tangent kernel of a model on some samples."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError
from ..measure.flow import first_output


@dataclass(frozen=True)
class TangentKernel:
    """The neural tangent kernel of some samples: inner products of the gradients of the output."""

    references: ClassVar = ("jacot2018neural",)
    kernel: np.ndarray
    """The inner products, (samples, samples)."""
    largest: float
    """The largest eigenvalue of the kernel."""
    condition: float
    """The largest over the smallest eigenvalue; inf where that is 0 to rounding."""

    @property
    def largest_step(self) -> float:
        """The step size up to which gradient descent on half the mean squared error over these samples is stable."""
        return 2 * len(self.kernel) / self.largest if self.largest else math.inf


def ntk(model: nn.Module, x: Tensor) -> TangentKernel:
    """The tangent kernel of a model on the samples of x, along one direction of its output, drawn the same each time.

    One backward pass per sample; samples times parameters are held in memory. The model runs in the mode it is in, and
    its buffers are left as they were.

    Raises:
        ValueError: fewer than two samples, or no parameter that takes gradients.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if len(x) < 2 or not parameters:
        raise MinimandError(
            f"x has {len(x)} samples and the model {len(parameters)} parameters; at least 2 and 1 are needed."
        )
    buffers = [(b, b.clone()) for b in model.buffers()]
    try:
        with torch.enable_grad():
            y = first_output(model(x)).flatten(1)
            along = torch.randn(y.shape[1], generator=torch.Generator().manual_seed(0)).to(y)
            outputs = y @ (along / along.norm())
            rows = [torch.autograd.grad(o, parameters, retain_graph=True, allow_unused=True) for o in outputs]
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
    zeros = [torch.zeros_like(p) for p in parameters]
    filled = [[zero if g is None else g for g, zero in zip(row, zeros, strict=True)] for row in rows]
    gradients = torch.stack([torch.cat([g.flatten() for g in row]) for row in filled]).double()
    kernel = (gradients @ gradients.T).cpu().numpy()
    values = np.linalg.eigvalsh(kernel)
    rounding = torch.finfo(parameters[0].dtype).eps * len(values) * values[-1]
    ratio = float(values[-1] / values[0]) if values[0] > rounding else math.inf
    return TangentKernel(kernel, float(values[-1]), ratio)
