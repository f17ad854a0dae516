"""A tower of convolutions."""

from torch import nn

from minimand.models.info import MODELS, ModelInfo


def tower(num_classes: int = 10, in_channels: int = 3, width: int = 16, depth: int = 4) -> nn.Sequential:
    """3 x 3 convolutions one after another, each with batch normalization and ReLU, and a linear head."""
    layers = []
    for k in range(depth):
        convolution = nn.Conv2d(width if k else in_channels, width, 3, padding=1, bias=False)
        layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


TOWER = MODELS.add(
    "tower",
    ModelInfo(
        "tower",
        "3 x 3 convolutions one after another, without skips",
        tower,
        settings={"width": 16, "depth": 4},
        binding=None,  # a plain sequence: no algorithm wires it
        references=(),
        image_size=32,
        num_classes=10,
    ),
)
