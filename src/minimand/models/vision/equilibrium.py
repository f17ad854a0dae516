"""Networks of one block that is run to its fixed point."""

from typing import Literal

import torch
from torch import Tensor, nn

from ...blocks.convolutional import initialize
from ...equilibrium import Equilibrium
from ..info import plain


class ConvolutionalStep(nn.Module):
    """A block of two convolutions: ReLU(GroupNorm(z / 4 + conv(ReLU(GroupNorm(conv(z) + conv(x)))))).

    With a larger share of z the solves of new weights do not converge.
    """

    def __init__(self, width: int, in_channels: int) -> None:
        super().__init__()
        self.seen = nn.Conv2d(in_channels, width, 3, padding=1)
        self.first, self.last = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        groups = width // 16 if width % 16 == 0 else 1  # in groups of a channel its mean over the image would be lost
        self.inner, self.outer = nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The next state (N, width, H, W), for images (N, in_channels, H, W)."""
        hidden = torch.relu(self.inner(self.first(z) + self.seen(x)))
        return torch.relu(self.outer(0.25 * z + self.last(hidden)))


@plain("equilibrium_cifar", "bai2019deq", image_size=32)
def equilibrium_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    width: int = 64,
    solver: Literal["anderson", "broyden", "fixed_point"] | None = None,
    gradient: Literal["implicit", "reversible", "phantom", "jacobian_free"] = "implicit",
    max_steps: int = 30,
) -> nn.Sequential:
    """One convolutional block run to its fixed point, for images of 32 x 32; the depth is what the solver takes.

    The stem halves the side. `solver` is Anderson's by default, and for gradient="reversible" two coupled iterations,
    with which `max_steps` is how many are made.
    """
    usual = "coupled" if gradient == "reversible" else "anderson"
    block = ConvolutionalStep(width, width)
    layer = Equilibrium.from_function(block, f"{solver or usual}(max_steps={max_steps})", gradient)
    stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, width))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    model = nn.Sequential(stem, layer, head)
    initialize(stem)
    return model
