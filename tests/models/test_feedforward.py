"""The networks that hard thresholds were studied on."""

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.models.vision.feedforward import alexnet_dorefa, convnet4, convnet8


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "size", "count", "thresholds"),
    [
        (convnet4, 32, 4_259_274, 3),
        (convnet8, 32, 1_492_554, 7),
        (alexnet_dorefa, 224, 62_394_344, 7),
        (lambda: mm.create_model("resnet18"), 64, 11_689_512, 17),
        (lambda: mm.create_model("cifar_resnet18"), 32, 11_173_962, 17),
    ],
)
def test_parameters_are_those_of_the_published_code(make, size: int, count: int, thresholds: int) -> None:
    with torch.device("meta"):
        model = make()
        assert _count(model) == count
        mm.harden(model, mm.Sign())
        assert sum(isinstance(m, mm.Sign) for m in model.modules()) == thresholds
        assert _count(model) == count
        assert model.eval()(torch.empty(2, 3, size, size)).shape == (2, 1000 if count > 11_500_000 else 10)


def test_images_of_another_size_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="made for images of 32 x 32"):
        convnet8()(torch.zeros(2, 3, 64, 64))
