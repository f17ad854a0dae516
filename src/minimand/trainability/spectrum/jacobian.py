"""Singular values, measured: of the Jacobian of any function or model, and of a convolution as a map of images."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._support.checks import check_choice, check_number
from ..._support.errors import MinimandError, WrongTypeError
from ..._support.torch.internals import ConvNd, tree_map
from ...networks.undisturbed import undisturbed
from ..measure.flow import first_output, tensors
from ..measure.tracing import arguments

WhichValues = Literal["LM", "all"]

# Up to so many inputs or outputs of a model all singular values are computed, else the largest.
_WHOLE, _LARGEST = 1024, 6


def singular_values(fn: Callable[[Tensor], Tensor], x: Tensor, k: int = 6, which: WhichValues = "LM") -> np.ndarray:
    """Singular values of the Jacobian of `fn` at x, all of x and of fn(x) taken as vectors; largest first.

    `LM` finds the k largest by Lanczos iteration; `all` builds the whole Jacobian. Derivatives of `fn`, in the mode it
    is in, are taken backwards only, twice for `LM`.
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
    ones = torch.eye(y.numel(), dtype=y.dtype, device=y.device)
    return torch.stack([_gradient(y, x, one.view_as(y)).flatten() for one in ones])


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

    def along(of: Tensor, at: Tensor, like: Tensor, v: np.ndarray) -> np.ndarray:
        cotangent = torch.as_tensor(v, dtype=like.dtype, device=like.device).view_as(like)
        return _gradient(of, at, cotangent).detach().double().cpu().numpy().ravel()

    push, pull = partial(along, pulled, u, x), partial(along, y, x, y)
    operator = LinearOperator((y.numel(), x.numel()), matvec=push, rmatvec=pull, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).standard_normal(min(operator.shape))
    tolerance: Any = 0.0 if x.dtype == torch.float64 else float(torch.finfo(x.dtype).eps)
    values: Any = svds(operator, k, v0=start, tol=tolerance, return_singular_vectors=False)
    return np.sort(values)[::-1]


def convolution_singular_values(weight: Tensor, size: int | Sequence[int], stride: int = 1, groups: int = 1) -> Tensor:
    """All singular values of a convolution with circular padding, largest first; gradients flow to the weight.

    By Fourier transform: one matrix per frequency (Sedghi et al., 2019), and with a stride the frequencies that
    fall on one another side by side. The weight has the shape (out, in / groups, *kernel), in 1, 2 or 3 dimensions;
    `size`, the length of the input in every dimension or in each, is a multiple of the stride, at least the kernel's.
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

    An `nn.Conv` of 1, 2 or 3 dimensions, a transposed one included; its bias plays no part. `size` is the length of the
    input in every dimension, or in each.
    """
    if not isinstance(convolution, ConvNd):
        raise WrongTypeError(f"convolution is a {type(convolution).__name__}; expected an nn.Conv.")
    sizes = (size,) * (convolution.weight.ndim - 2) if isinstance(size, int) else tuple(size)
    return float(singular_values(convolution, convolution.weight.new_zeros(1, convolution.in_channels, *sizes), 1)[0])


def at_first_sample(model: nn.Module, batch: Any, samples: int) -> tuple[float, ...]:
    """Singular values of the Jacobian at the first sample of a batch, in eval mode, largest first.

    The Jacobian goes from the first floating-point input, or what the first embedding makes of its tokens, to the
    first output. All singular values where there are up to 1,024 inputs or outputs, else the six largest.
    """

    def first(leaf: Any) -> Any:
        shape = leaf.shape[:2] if isinstance(leaf, Tensor) else ()
        return leaf.narrow(shape.index(samples), 0, 1) if samples in shape else leaf

    one = tree_map(first, arguments(batch))
    with undisturbed(model):
        model.eval()
        function, x = _function(model, *one)
        with torch.no_grad():
            outputs = function(x).numel()
        which = "all" if min(x.numel(), outputs) <= _WHOLE else "LM"
        return tuple(map(float, singular_values(function, x, _LARGEST, which)))


def _function(model: nn.Module, args: Any, kwargs: Any) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The model as a function of one floating-point tensor, and that tensor."""

    def of_input(value: Tensor) -> Tensor:
        positional, named = tree_map(lambda leaf: value if leaf is x else leaf, (args, kwargs))
        return first_output(model(*positional, **named))

    x = next((tensor for tensor in tensors((args, kwargs)) if tensor.is_floating_point()), None)
    if x is not None:
        return of_input, x
    outputs = _embedded(model, args, kwargs)
    if not outputs:
        kinds = ", ".join(sorted({str(tensor.dtype) for tensor in tensors((args, kwargs))}))
        raise MinimandError(
            f"jacobian=True needs a floating-point input, or an nn.Embedding that reads the tokens; the batch is of "
            f"{kinds} and {type(model).__name__} has none."
        )
    return lambda value: first_output(_embedded(model, args, kwargs, value)[-1]), outputs[0].detach()


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
