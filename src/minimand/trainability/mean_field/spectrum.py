"""Spectra: of the Jacobian from input to output, in theory and measured; of convolutions; of the tangent kernel."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._support.checks import check_number
from ..._support.errors import MinimandError, WrongTypeError, unknown_name
from ..._support.extras import require
from ..._support.torch_internals import ConvNd
from ..measure.flow import first_output
from . import expectations
from .activation import activation
from .free_probability import Ensemble, Factors

Which = Literal["LM", "all"]


@dataclass(frozen=True)
class SpectrumTheory:
    """What the squared singular values of a Jacobian are in a wide network."""

    references: ClassVar = ("pennington2018emergence", "tarnowski2019dynamical")
    mean: float
    var: float
    largest: float
    """The end of their density."""


def theory(phi: Any, ensemble: Ensemble, depth: int, q: float, *, sigma_w: float | None = None) -> SpectrumTheory:
    """The squared singular values of J, a product of `depth` factors W diag(phi'(h)).

    Pennington et al. (2018): the mean is (sigma_w^2 mu1)^depth, the variance mean^2 depth (mu2 / mu1^2 - 1 - s1), with
    s1 = 0 for orthogonal and -1 for Gaussian weights.

    Args:
        phi: an activation as in `meanfield`.
        ensemble: `orthogonal` or `gaussian` weights.
        depth: the number of layers.
        q: the variance of h in all of them.
        sigma_w: the scale of the weights; None is the critical one, for which the mean is 1.
    """
    factors = Factors.of(phi, ensemble, depth, q, sigma_w)
    m = expectations.moments(activation(phi), float(q))
    mean = (factors.sigma_w**2 * m.mu1) ** depth
    var = mean**2 * depth * (m.mu2 / m.mu1**2 - 1 + (ensemble == "gaussian"))
    return SpectrumTheory(mean, max(var, 0.0), factors.edge())


def density(
    phi: Any,
    ensemble: Ensemble,
    depth: int,
    q: float,
    at: np.ndarray,
    *,
    sigma_w: float | None = None,
    head: bool = False,
) -> np.ndarray:
    """The density of the squared singular values at the values `at`, all above 0, as `theory` has their moments.

    With `head` one more W, a linear layer at the end, is part of the product. Jumps and atoms are smoothed over about a
    thousandth of where they are; the atom that dead units put at 0 is not part of it.
    """
    at = np.asarray(at, dtype=float)
    if not (at > 0).all():
        raise MinimandError("the values at which to take the density are to be above 0.")
    return Factors.of(phi, ensemble, depth, q, sigma_w, head).density(at)


def residual(c: float) -> SpectrumTheory:
    """The squared singular values of a deep residual network whose branches add up to variance c.

    With branches of scale a in each of L layers, c = L a^2 sigma_w^2 mu1. Neither phi nor L matters beyond it
    (Tarnowski et al., 2019): S = exp(-c (1 + 2 z)), so the mean is e^c and the variance 2 c e^(2 c).
    """
    check_number("c", c, 0, math.inf)
    if c == 0:
        return SpectrumTheory(1.0, 0.0, 1.0)
    z = (math.sqrt(1 + 2 / c) - 1) / 2  # where (1 + z) / (z S(z)) is least
    return SpectrumTheory(math.exp(c), 2 * c * math.exp(2 * c), (1 + z) / z * math.exp(c * (1 + 2 * z)))


def singular_values(fn: Callable[[Tensor], Tensor], x: Tensor, k: int = 6, which: Which = "LM") -> np.ndarray:
    """Singular values of the Jacobian of `fn` at x, all of x and of fn(x) taken as vectors; largest first.

    Args:
        fn: any module or function of one tensor, in the mode it is in; derivatives are taken backwards only, twice
            for `LM`.
        x: its input, of floating numbers.
        k: how many, for `LM`.
        which: `LM` finds the k largest by Lanczos iteration; `all` builds the whole Jacobian.
    """
    if which not in get_args(Which):
        raise unknown_name("choice of singular values", str(which), get_args(Which))
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
    """Row by row, or transposed and column by column where there are fewer inputs."""
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
    found = torch.autograd.grad(y, x, cotangent, retain_graph=True, create_graph=again, allow_unused=True)[0]
    return torch.zeros_like(x) if found is None else found


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


def _like(v: np.ndarray, other: Tensor) -> Tensor:
    return torch.as_tensor(v, dtype=other.dtype, device=other.device).view_as(other)


def convolution_singular_values(weight: Tensor, size: int | Sequence[int], stride: int = 1, groups: int = 1) -> Tensor:
    """All singular values of a convolution with circular padding, largest first; gradients flow to the weight.

    By Fourier transform: one matrix per frequency (Sedghi et al., 2019), and with a stride the frequencies that
    fall on one another side by side.

    Args:
        weight: the kernel, of shape (out, in / groups, *kernel), in 1, 2 or 3 dimensions.
        size: the length of the input in every dimension, or in each; multiples of the stride and at least the kernel's.
        stride: of the convolution, in every dimension.
        groups: of the convolution.
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
    return (
        torch.linalg.svdvals(split.permute(0, *apart, 1, 2, *meeting).flatten(-1 - len(kernel)))
        .flatten()
        .sort(descending=True)[0]
    )


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


@dataclass(frozen=True)
class TangentKernel:
    """The neural tangent kernel of some samples: inner products of the gradients of the output."""

    references: ClassVar = ("jacot2018neural",)
    kernel: np.ndarray
    largest: float
    condition: float
    """Largest over smallest eigenvalue; inf where that is 0 to rounding."""

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
    given = [[zero if g is None else g for g, zero in zip(row, zeros, strict=True)] for row in rows]
    gradients = torch.stack([torch.cat([g.flatten() for g in row]) for row in given]).double()
    kernel = (gradients @ gradients.T).cpu().numpy()
    values = np.linalg.eigvalsh(kernel)
    rounding = torch.finfo(parameters[0].dtype).eps * len(values) * values[-1]
    ratio = float(values[-1] / values[0]) if values[0] > rounding else math.inf
    return TangentKernel(kernel, float(values[-1]), ratio)


class _Mean(nn.Module):
    """A loss that is what it is: of one batch, so that nothing is to be weighed."""

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
        hessian = curvlinops.HessianLinearOperator(model, _Mean(loss), parameters, [(x, target)]).to_scipy()
        start = np.random.default_rng(0).standard_normal(hessian.shape[0])
        options: dict[str, Any] = {"v0": start, "tol": 1e-4, "return_eigenvectors": False}
        smallest, largest = (eigsh(hessian, 1, which=end, **options)[0] for end in ("SA", "LA"))
    return float(smallest), float(largest)
