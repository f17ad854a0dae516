"""The layers of densely connected networks: DenseNet (Huang et al. 2017) and AGD-Net (Li et al. 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..algorithms import DenseNesterov
from .convolutional import convolution
from .registry import block


class WeightedSum(nn.Conv2d):
    """A convolution of z_0 ... z_k with a learned factor for each, 1 at the start: sum_j a_j W_j z_j.

    z_0 has `channels`, and each z_j after it `growth` more; the filters have an odd side, and the image keeps its size.
    """

    def __init__(self, channels: int, growth: int, k: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(channels + k * growth, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.channels, self.growth = channels, growth
        self.a = nn.Parameter(torch.ones(k + 1))

    def forward(self, input: Tensor) -> Tensor:
        a = torch.cat([self.a[:1].expand(self.channels), self.a[1:].repeat_interleave(self.growth)])
        return F.conv2d(input, self.weight * a[:, None, None], padding=self.padding)


@block("dense", (2, 8, 5, 5), channels=4, growth=2, k=1, layers=2)
class DenseLayer(nn.Module):
    """Layer k of a densely connected stage as a block T: z_{k+1} in its slot, zero elsewhere.

    The state (N, channels + layers growth, H, W) holds z_0 of `channels`, and then a slot of `growth` for each of
    z_1 ... z_layers, zero until it is filled. Layer k, from 0, reads what is filled by then: x + T(x) is DenseNet.

    Without `beta` z_{k+1} = T_k(z_0 ... z_k), with T_k BN-ReLU-Conv, or BN-ReLU-Conv1x1-BN-ReLU-Conv with a
    bottleneck of 4 growth channels. With it (Li et al. 2018, equation 21)

        z_{k+1} = sum_{j<=k} a_j T_{k,j}(z_j) + beta (z_k - sum_{j<=k} h(k, j) z_j)

    with h of `DenseNesterov`. What the paper leaves open: T_{k,j} is a block for each pair, which makes the first sum
    the same convolution with weighted inputs; with a bottleneck that is the 1 x 1 one. z_0, which has other channels,
    needs no projection: its h(k, 0) is 0, and in layer 0, where h is 1, it cancels.
    """

    skip: Tensor | None

    def __init__(
        self, channels: int, growth: int, k: int, layers: int, bottleneck: bool = False, beta: float | None = None
    ) -> None:
        super().__init__()
        self.channels, self.slots = channels, (k, growth)
        self.filled, self.empty = channels + k * growth, (layers - k - 1) * growth
        width, size = (4 * growth, 1) if bottleneck else (growth, 3)
        if beta is None:
            first = nn.Conv2d(self.filled, width, size, padding=size // 2, bias=False)
        else:
            first = WeightedSum(channels, growth, k, width, size)
        self.branch = nn.Sequential(nn.BatchNorm2d(self.filled), nn.ReLU(inplace=True), first)
        if bottleneck:
            self.branch.extend([nn.BatchNorm2d(width), nn.ReLU(inplace=True), convolution(width, growth)])
        h = DenseNesterov().weights(k)
        skip = None if beta is None or k == 0 else torch.tensor([beta * ((j == k) - h[j]) for j in range(1, k + 1)])
        self.register_buffer("skip", skip, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        z = x[:, : self.filled]
        new = self.branch(z)
        if self.skip is not None:
            new = new + (z[:, self.channels :].unflatten(1, self.slots) * self.skip[:, None, None, None]).sum(1)
        return F.pad(new, (0, 0, 0, 0, self.filled, self.empty))
