"""A summary counts what is there, for models of every kind."""

from typing import Any

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.models.info import MODELS
from minimand.networks import count_parameters
from minimand.report import count_flops

SMALL = ["resnet20", "convnet8", "densenet40_12", "highway", "mlp", "vit_tiny"]


@pytest.mark.parametrize("name", SMALL)
def test_parameters_and_multiplications_add_up(name: str) -> None:
    info = MODELS[name]
    settings: dict[str, Any] = {"width": 4} if name in ("resnet20", "mlp") else {}
    channels = 64 if info.takes_vectors else 3
    model = mm.create_model(name, num_classes=10, in_channels=channels, **settings)
    side = info.image_size
    shape = (channels,) if info.takes_vectors else (channels, side, side)
    summary = mm.summary(model, torch.zeros(2, *shape))
    outside = sum(p.numel() for module in model.modules() if list(module.children()) for p in module.parameters(False))
    assert summary.parameters == count_parameters(model)
    assert sum(layer.parameters for layer in summary.layers) + outside >= summary.parameters
    assert 2 * summary.macs == count_flops(model, shape)
    assert sum(layer.macs for layer in summary.layers) <= summary.macs
    assert summary.unused == ()
    assert summary.layers[-1].output == (10,)
    assert "\n" not in repr(summary)
    assert "<table>" in summary._repr_html_()


def test_a_linear_layer_is_counted_by_hand_and_steps_are_named() -> None:
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3)]
    model = nn.Sequential(nn.Linear(2, 8), mm.unroll("heavy_ball", blocks, "residual"), nn.Linear(8, 2))
    summary = mm.summary(model, torch.zeros(5, 2))
    first, *steps, last = [layer for layer in summary.layers if layer.parameters]
    assert (first.macs, first.parameters, first.output, first.place) == (16, 24, (8,), "")
    assert [step.place for step in steps] == [f"HeavyBall {k}/3" for k in (1, 2, 3)]
    assert last.output == (2,)


def test_shared_and_unused_layers_are_told() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.unused, self.read = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.unused.weight.shape == (4, 4)
            return self.layer(self.layer(x)) @ self.read.weight.T + self.read.bias

    summary = mm.summary(Twice(), torch.zeros(3, 4))
    assert summary.unused == ("unused",)
    layer, read = summary.layers
    assert (layer.calls, layer.macs, layer.parameters) == (2, 32, 20)
    assert (read.calls, read.parameters, summary.macs) == (0, 20, 48)
    assert "weights only" in str(summary)


def test_what_cannot_be_summarized_is_named() -> None:
    with pytest.raises(ValueError, match=r"Linear fails on a batch of the shape \(2, 3\)"):
        mm.summary(nn.Linear(4, 4), torch.zeros(2, 3))
    with pytest.raises(TypeError, match="example is str; expected a batch"):
        mm.summary(nn.Linear(4, 4), "digits")
    with pytest.raises(TypeError, match="model is str; expected a module"):
        mm.summary("mlp", torch.zeros(2, 3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="an empty batch"):
        mm.summary(nn.Linear(4, 4), torch.zeros(0, 4))
    with pytest.raises(TypeError, match="model is str; expected a module"):
        mm.explain("mlp")  # pyright: ignore[reportArgumentType]


def test_few_multiplications_are_not_rounded_to_none() -> None:
    rows = mm.summary(nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 4000)), torch.zeros(3, 8)).rows()
    assert [row[4] for row in rows] == ["0.0005", "0.26"]
