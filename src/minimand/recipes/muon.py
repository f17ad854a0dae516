"""Muon: steepest descent for matrices under the spectral norm (Jordan et al. 2024; Bernstein & Newhouse 2024)."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

# The quintic of Jordan: its slope at 0 is large, and five steps bring singular values from 0.01 to 1 near 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: (n, rows, columns) to the same by five Newton-Schulz steps.

    Singular values from 0.01 of the Frobenius norm on end between 0.68 and 1.13; smaller ones stay below.
    """
    x = matrices.to(dtype)
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / x.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=1)  # the squares of large entries would overflow
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)


def as_matrix(values: Tensor, weight: Tensor) -> Tensor:
    """Values of a weight's shape as a matrix (outputs, inputs x taps), whose columns are in the weight's memory order.

    The gradient of a weight may lie in memory another way than the weight, and still has to have the same columns.
    """
    return (values.movedim(1, -1) if _has_channels_last(weight) else values).reshape(len(values), -1)


def from_matrix(matrix: Tensor, weight: Tensor) -> Tensor:
    """A matrix with the rows and columns of `as_matrix`, as a view in the shape of the weight."""
    if _has_channels_last(weight):
        return matrix.view(len(weight), *weight.shape[2:], weight.shape[1]).movedim(-1, 1)
    return matrix.view_as(weight)


def _has_channels_last(weight: Tensor) -> bool:
    return weight.ndim > 2 and not weight.is_contiguous()


class MuonOptimizer(torch.optim.Optimizer):
    """Muon for the groups with `momentum`, AdamW for those with `betas`, as one optimizer of torch.

    A matrix (o, i) moves by lr sqrt(max(1, o / i)) O, where O is the nearest semi-orthogonal matrix to the average of
    its gradients (with Nesterov's look-ahead); weights shrink by lr times weight decay before. Convolutions are
    matrices of (outputs, inputs x taps); in a group that is `transposed`, as GPT-2's of transformers and transposed
    convolutions are, matrices are (i, o). Those of one shape are orthogonalized together, in bfloat16 on a GPU.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                (self._move_matrices if "momentum" in group else self._move_entries)(group, parameters)
        return loss

    def _move_matrices(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        momentum = group["momentum"]
        by_shape: dict[tuple[torch.Size, torch.device], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            gradient, state = cast(Tensor, parameter.grad), self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            average = state["momentum_buffer"]
            average.lerp_(gradient, 1 - momentum)
            ahead = as_matrix(gradient.lerp(average, momentum), parameter)
            by_shape[ahead.shape, ahead.device].append((parameter, ahead))
        for (shape, device), members in by_shape.items():
            dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
            orthogonal = orthogonalize(torch.stack([ahead for _, ahead in members]), dtype)
            outputs, inputs = reversed(shape) if group.get("transposed") else shape
            size = -group["lr"] * math.sqrt(max(1.0, outputs / inputs))
            for (parameter, _), matrix in zip(members, orthogonal, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(from_matrix(matrix, parameter), alpha=size)

    def _move_entries(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)  # bfloat16 counts to 256
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[p] for p in parameters]
        adamw(
            cast(list[Tensor], parameters),
            [cast(Tensor, p.grad) for p in parameters],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
