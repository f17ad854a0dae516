"""The ends of the spectrum of the Hessian of a loss (extra `curvature`)."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._support.extras import require


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
