"""Singular values of a convolution as a map of images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..._support.errors import MinimandError, WrongTypeError
from ..._support.torch_internals import ConvNd
from .jacobian import singular_values


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
