"""The feedforward networks that hard thresholds were studied on (Friesen & Domingos 2018; Zhou et al. 2016).

Plain sequences with ReLUs; `mm.harden` makes them networks of steps.
"""

from torch import Tensor, nn
from torch.fx import Proxy


class FlattenOf(nn.Flatten):
    """Flatten maps of which there have to be a number of entries: images have one size."""

    def __init__(self, features: int, image_size: int) -> None:
        super().__init__()
        self.features, self.image_size = features, image_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, features)."""
        if not isinstance(input, Proxy) and input.shape[1:].numel() != self.features:
            raise ValueError(
                f"these images leave maps of {input.shape[2]} x {input.shape[3]}; the network is made for images "
                f"of {self.image_size} x {self.image_size}."
            )
        return super().forward(input)


def convnet4(num_classes: int = 10, in_channels: int = 3) -> nn.Sequential:
    """Two convolutions and two linear layers for images of 32 x 32, without normalization."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 32, 5, padding=3),
        *(nn.MaxPool2d(2), nn.ReLU()),
        nn.Conv2d(32, 64, 5, padding=2),
        *(nn.MaxPool2d(2), nn.ReLU()),
        *(FlattenOf(4096, 32), nn.Linear(4096, 1024), nn.ReLU()),
        nn.Linear(1024, num_classes),
    )


def convnet8(num_classes: int = 10, in_channels: int = 3) -> nn.Sequential:
    """Seven convolutions and a linear layer for images of 32 x 32: DoReFa-Net's network for SVHN."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 48, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()),
        *_normalized(nn.Conv2d(48, 64, 3, padding=1, bias=False)),
        *_normalized(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.MaxPool2d(2)),
        *_normalized(nn.Conv2d(64, 128, 3, bias=False)),
        *_normalized(nn.Conv2d(128, 128, 3, padding=1, bias=False)),
        *_normalized(nn.Conv2d(128, 128, 3, bias=False)),
        nn.Dropout2d(0.5),
        *_normalized(nn.Conv2d(128, 512, 4, bias=False)),
        *(FlattenOf(512, 32), nn.Linear(512, num_classes)),
    )


def alexnet_dorefa(num_classes: int = 1000, in_channels: int = 3) -> nn.Sequential:
    """DoReFa-Net's AlexNet for images of 224 x 224: batch normalization, no groups, no dropout."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 96, 12, 4, bias=False), nn.ReLU()),
        *_normalized(nn.Conv2d(96, 256, 5, padding=2, bias=False), nn.MaxPool2d(3, 2, 1)),
        *_normalized(nn.Conv2d(256, 384, 3, padding=1, bias=False), nn.MaxPool2d(3, 2)),
        *_normalized(nn.Conv2d(384, 384, 3, padding=1, bias=False)),
        *_normalized(nn.Conv2d(384, 256, 3, padding=1, bias=False), nn.MaxPool2d(3, 2)),
        FlattenOf(9216, 224),
        *(nn.Linear(9216, 4096, bias=False), nn.BatchNorm1d(4096, eps=1e-4), nn.ReLU()),
        *(nn.Linear(4096, 4096, bias=False), nn.BatchNorm1d(4096, eps=1e-4), nn.ReLU()),
        nn.Linear(4096, num_classes),
    )


def _normalized(convolution: nn.Conv2d, *pooling: nn.Module) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels, eps=1e-4), *pooling, nn.ReLU()]
