"""Singular values, measured: of the Jacobian of any function, and of a convolution as a map of images."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._support.checks import check_choice, check_number
from ..._support.errors import MinimandError, WrongTypeError
from ..._support.torch_internals import ConvNd

WhichValues = Literal["LM", "all"]


def singular_values(fn: Callable[[Tensor], Tensor], x: Tensor, k: int = 6, which: WhichValues = "LM") -> np.ndarray:
    """Singular values of the Jacobian of `fn` at x, all of x and of fn(x) taken as vectors; largest first.

    Args:
        fn: any module or function of one tensor, in the mode it is in; derivatives are taken backwards only, twice
            for `LM`.
        x: the input of `fn`, of floating numbers.
        k: the number of singular values, for `LM`.
        which: `LM` finds the k largest by Lanczos iteration; `all` builds the whole Jacobian.
    """
    check_choice("choice of singular values", which, WhichValues)
    check_number("k", k, 1, math.inf, whole=True)
    if not x.is_floating_point():
        raise WrongTypeError(
            f"x is of {x.dtype}; a Jacobian needs floating input: for tokens, start from their embedding."
        )
    # Fused attention and cuDNN's recurrent networks have no second derivative.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        x = x.detach().clone().requires_grad_()
        y = fn(x)
        if not isinstance(y, Tensor):
            raise WrongTypeError(f"fn returned a {type(y).__name__}; expected a tensor. Wrap it: lambda x: fn(x)[0].")
        if not y.requires_grad:
            return np.zeros(min(k if which == "LM" else x.numel(), x.numel(), y.numel()))
        if which == "all" or k >= min(x.numel(), y.numel()):
            values = torch.linalg.svdvals(_jacobian(y, x)).double().cpu().numpy()
            return values if which == "all" else values[:k]
        return _largest(y, x, k)


def condition(fn: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Largest over smallest singular value of the Jacobian of `fn` at x; inf where that is singular to rounding."""
    values = singular_values(fn, x, which="all")
    rounding = torch.finfo(x.dtype).eps * max(1, len(values)) * values[0]
    return float(values[0] / values[-1]) if values[-1] > rounding else math.inf


def _jacobian(y: Tensor, x: Tensor) -> Tensor:
    """The Jacobian row by row, or transposed and column by column where there are fewer inputs."""
    if x.numel() < y.numel():
        u = torch.zeros_like(y, requires_grad=True)
        pulled = _gradient(y, x, u, again=True)
        return _jacobian(pulled, u) if pulled.requires_grad else torch.zeros(x.numel(), y.numel())
    rows = []
    for i in range(y.numel()):
        one = torch.zeros_like(y).view(-1)
        one[i] = 1
        rows.append(_gradient(y, x, one.view_as(y)).flatten())
    return torch.stack(rows)


def _gradient(y: Tensor, x: Tensor, cotangent: Tensor, again: bool = False) -> Tensor:
    """The product of a cotangent of y and the Jacobian, in the shape of x; `again` lets it be differentiated."""
    gradient = torch.autograd.grad(y, x, cotangent, retain_graph=True, create_graph=again, allow_unused=True)[0]
    return torch.zeros_like(x) if gradient is None else gradient


def _largest(y: Tensor, x: Tensor, k: int) -> np.ndarray:
    from scipy.sparse.linalg import LinearOperator, svds

    # J^T u is linear in u, so its gradient there is J v, whatever forward derivatives fn lacks.
    u = torch.zeros_like(y, requires_grad=True)
    pulled = _gradient(y, x, u, again=True)
    if not pulled.requires_grad:
        return np.zeros(k)

    def push(v: np.ndarray) -> np.ndarray:
        return _gradient(pulled, u, _like(v, x)).detach().double().cpu().numpy().ravel()

    def pull(v: np.ndarray) -> np.ndarray:
        return _gradient(y, x, _like(v, y)).detach().double().cpu().numpy().ravel()

    operator = LinearOperator((y.numel(), x.numel()), matvec=push, rmatvec=pull, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).standard_normal(min(operator.shape))
    tolerance: Any = 0.0 if x.dtype == torch.float64 else float(torch.finfo(x.dtype).eps)
    values: Any = svds(operator, k, v0=start, tol=tolerance, return_singular_vectors=False)
    return np.sort(values)[::-1]


def _like(v: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(v, dtype=like.dtype, device=like.device).view_as(like)


def convolution_singular_values(weight: Tensor, size: int | Sequence[int], stride: int = 1, groups: int = 1) -> Tensor:
    """All singular values of a convolution with circular padding, largest first; gradients flow to the weight.

    By Fourier transform: one matrix per frequency (Sedghi et al., 2019), and with a stride the frequencies that
    fall on one another side by side.

    Args:
        weight: the kernel, of shape (out, in / groups, *kernel), in 1, 2 or 3 dimensions.
        size: the length of the input in every dimension, or in each; multiples of the stride and at least the kernel's.
        stride: the stride of the convolution, in every dimension.
        groups: the groups of the convolution.
    """
    kernel = weight.shape[2:]
    sizes = (size,) * len(kernel) if isinstance(size, int) else tuple(size)
    fits = len(sizes) == len(kernel) and all(n >= k and n % stride == 0 for n, k in zip(sizes, kernel, strict=True))
    if not kernel or not fits or weight.shape[0] % groups:
        raise MinimandError(
            f"weight of shape {tuple(weight.shape)}, size {size}, stride {stride} and groups {groups} do not fit; "
            "expected (out, in / groups, *kernel), sizes that are multiples of the stride and at least the kernel's, "
            "and groups that divide out."
        )
    dims = tuple(range(2, weight.ndim))
    transfer = torch.fft.fftn(weight, s=sizes, dim=dims) / stride ** (len(kernel) / 2)
    # Frequencies that differ by a multiple of size / stride meet after the stride: they belong to the input's side.
    split = transfer.reshape(groups, -1, weight.shape[1], *(n for full in sizes for n in (stride, full // stride)))
    meeting, apart = range(3, split.ndim, 2), range(4, split.ndim, 2)
    matrices = split.permute(0, *apart, 1, 2, *meeting).flatten(-1 - len(kernel))
    return torch.linalg.svdvals(matrices).flatten().sort(descending=True)[0]


def convolution_norm(convolution: nn.Module, size: int | Sequence[int]) -> float:
    """The operator norm of a convolution as it is, with its padding, stride, dilation and groups, by Lanczos iteration.

    Args:
        convolution: an `nn.Conv` of 1, 2 or 3 dimensions, transposed ones included; its bias plays no part.
        size: the length of the input in every dimension, or in each.
    """
    if not isinstance(convolution, ConvNd):
        raise WrongTypeError(f"convolution is a {type(convolution).__name__}; expected an nn.Conv.")
    sizes = (size,) * (convolution.weight.ndim - 2) if isinstance(size, int) else tuple(size)
    return float(singular_values(convolution, convolution.weight.new_zeros(1, convolution.in_channels, *sizes), 1)[0])
