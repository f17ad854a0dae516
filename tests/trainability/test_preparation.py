"""What each kind of preparation promises of the prepared model."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import minimand as mm
from minimand.networks.kinds import NORMALIZATIONS
from minimand.trainability.measure.reading import number
from minimand.trainability.prepare import PREPARATIONS
from sweeps import thin


def deep(activation: type[nn.Module], layers: int = 40, width: int = 60) -> nn.Sequential:
    return nn.Sequential(
        *[m for _ in range(layers) for m in (nn.Linear(width, width), activation())], nn.Linear(width, 5)
    )


def cnn(layers: int = 20) -> nn.Sequential:
    first, rest = nn.Conv2d(3, 16, 3, padding=1), [nn.Conv2d(16, 16, 3, padding=1) for _ in range(layers)]
    body = [m for layer in (first, *rest) for m in (layer, nn.Tanh())]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


def resnet() -> nn.Module:
    return mm.create_model("resnet20(depth=12, width=8)", num_classes=5)


def transformer(norm_first: bool = False) -> nn.TransformerEncoder:
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first), 8, enable_nested_tensor=False
    )


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 16, batch_first=True), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


VECTORS, IMAGES = torch.randn(32, 60), torch.randn(16, 3, 8, 8)
MODELS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "deep_tanh": (lambda: deep(nn.Tanh), VECTORS),
    "deep_gelu": (lambda: deep(nn.GELU), VECTORS),
    "plain_cnn": (cnn, IMAGES),
    "residual_norm": (resnet, IMAGES),
    "residual_nonorm": (resnet, IMAGES),
    "normalizer_free": (resnet, IMAGES),
    "transformer": (transformer, torch.randn(4, 6, 16)),
    "recurrent": (Recurrent, torch.randn(8, 12, 6)),
    "rescue": (lambda: deep(nn.Tanh), VECTORS),
    "mup": (lambda: deep(nn.ReLU, layers=4), VECTORS),
    "complete_p": (resnet, IMAGES),
}


@pytest.mark.parametrize("kind", thin(PREPARATIONS, [kind for kind in PREPARATIONS if kind != "deep_gelu"]))
def test_what_is_prepared_would_train(kind: str) -> None:
    torch.manual_seed(0)
    make, x = MODELS[kind]
    model = make()
    if kind in ("deep_tanh", "deep_gelu", "rescue"):  # torch's own weights are what makes them fail
        assert mm.diagnose(model, x).verdict.code == "vanishing"
    assert mm.trainability.list_preparations()[kind].endswith(".")
    prepared = mm.prepare(model, kind, x, epochs=3)
    assert prepared.recipe.epochs == 3
    verdict = mm.diagnose(model, x).verdict
    assert verdict.code in ("ok", "structural_zero"), verdict


def test_the_gradient_of_a_deep_tanh_network_keeps_its_size() -> None:
    model = deep(nn.Tanh)
    mm.prepare(model, "deep_tanh", VECTORS)
    layers = mm.diagnose(model, VECTORS).layers
    first, last = (number(layers[i].read_gradient, 0.0) for i in (1, -2))
    assert abs(math.log(first / last)) < 1


@pytest.mark.parametrize("kind", ["residual_nonorm", "normalizer_free"])
def test_normalization_is_taken_out_and_branches_start_at_zero(kind: str) -> None:
    torch.manual_seed(0)
    model: Any = resnet()
    prepared = mm.prepare(model, kind, IMAGES)
    assert not any(isinstance(module, NORMALIZATIONS) for module in model.modules())
    *_, last = prepared.recipe.optimizer.build(model, prepared.recipe.scalars).param_groups
    if kind == "residual_nonorm":
        assert {p.numel() for p in last["params"]} == {1}
        assert (last["share"], last["weight_decay"]) == (0.1, 0)
    block = model.stages[0].layers[0].block
    torch.testing.assert_close(block.branch(torch.randn(2, 8, 8, 8)), torch.zeros(2, 8, 8, 8))


def test_a_transformer_is_prepared_by_where_it_normalizes() -> None:
    x = torch.randn(4, 6, 16)
    bare = mm.normalize(transformer(), "none")
    schemes = [mm.prepare(m, "transformer", x).reports[0].scheme for m in (transformer(), transformer(True), bare)]  # pyright: ignore[reportAttributeAccessIssue]
    assert [scheme.partition(":")[0] for scheme in schemes] == ["deepnorm", "depth", "tfixup"]


def test_what_does_not_suit_is_refused_and_left_as_it_was() -> None:
    with pytest.raises(ValueError, match="'deep_tan'.*deep_tanh"):
        mm.prepare(deep(nn.Tanh), "deep_tan", VECTORS)
    with pytest.raises(ValueError, match="no convolution"):
        mm.prepare(deep(nn.Tanh), "plain_cnn", VECTORS)
    model = nn.Sequential(nn.Linear(60, 60), nn.BatchNorm1d(60), nn.ReLU(), nn.Linear(60, 5))
    with pytest.raises(ValueError, match="residual branches"):
        mm.prepare(model, "residual_nonorm", VECTORS)
    assert isinstance(model[1], nn.BatchNorm1d)
