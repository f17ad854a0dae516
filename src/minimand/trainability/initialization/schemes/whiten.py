"""Whitening filters for the first layer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...._support.checks import check_number
from ...._support.errors import MinimandError
from ..scheme import Job, scheme


@scheme("whiten", needs=("batch",), traced=False, references=("jordan2024airbench",))
def whiten(job: Job, eps: float = 5e-4) -> None:
    """The first layer, a convolution, whitens the patches of a batch of images; the others stay (Jordan, 2024).

    Filters are the eigenvectors of the patches' second moments, each over sqrt(eigenvalue + eps), the largest first,
    and then their negatives: twice as many as a patch has numbers.
    """
    check_number("eps", eps, 0, float("inf"))
    layer, images = job.layers[0], job.batch
    convolution = layer.module
    if not isinstance(convolution, nn.Conv2d) or convolution.groups > 1:
        kind = f"{type(convolution).__name__}" + (" in groups" if isinstance(convolution, nn.Conv2d) else "")
        raise MinimandError(
            f"whiten sets a convolution, and the first layer, {layer.name}, is a {kind}; expected a model such as "
            "airbench, or whiten=0 in a recipe."
        )
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != convolution.in_channels:
        shape = f"of shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise MinimandError(f"the batch is {shape}; expected images (N, {convolution.in_channels}, H, W).")
    size = convolution.weight[0].numel()
    if convolution.out_channels != 2 * size:
        raise MinimandError(
            f"whiten needs a first layer of {2 * size} filters, twice the numbers of its patch, and {layer.name} has "
            f"{convolution.out_channels}; expected a model such as airbench, or whiten=0 in a recipe."
        )
    patches = F.unfold(images.detach().double(), convolution.kernel_size, convolution.dilation, 0, convolution.stride)
    patches = patches.movedim(1, -1).reshape(-1, size)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values.clamp(min=0) + eps).sqrt()).T.flip(0)
    filters = torch.cat([filters, -filters]).view_as(convolution.weight)

    def fill(weight: Tensor) -> None:
        weight.copy_(filters)

    job.set(layer.parameter("weight"), "whitening", fill, size, 2 * size)
    for bias in layer.named("bias"):
        job.set(bias, "0", nn.init.zeros_)
