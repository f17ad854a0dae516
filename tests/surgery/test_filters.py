"""Filters that are removed for good: what stays the same, and what is refused."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

import minimand as mm
from minimand.surgery.remove_filters import origins_through


def _normalized(a: int, b: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), activation())


class Spread(nn.Module):
    """(N, C, H, W) to (N, 4 C, H / 2, W / 2), the place outside and the channel inside."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def chain(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """All that filters may be read by."""
    model = nn.Sequential(
        _normalized(3, 6, activation),
        nn.Sequential(nn.PixelUnshuffle(2), _normalized(24, 5, activation), nn.Dropout2d()),
        nn.Sequential(Spread(), _normalized(20, 7, activation), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(28), nn.Linear(28, 9), activation()),
        nn.Linear(9, 4),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            cast(torch.Tensor, module.running_mean).normal_()
            cast(torch.Tensor, module.running_var).uniform_(0.5, 1.5)
    return model.eval()


LAYERS = {"0.0": 6, "1.1.0": 5, "2.1.0": 7, "3.2": 9}


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_without_filters_whose_output_is_zero_a_network_gives_the_same(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    remaining = {
        name: data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True), label=name)
        for name, count in LAYERS.items()
        if data.draw(st.booleans())
    }
    model = chain()
    for name, left in remaining.items():
        gone = [i for i in range(LAYERS[name]) if i not in left]
        layer = cast(nn.Conv2d, model.get_submodule(name))
        parent = cast(nn.Sequential, model.get_submodule(name.rpartition(".")[0]))
        last = parent[1] if isinstance(parent[1], nn.BatchNorm2d) else layer
        with torch.no_grad():  # zero, whatever its input is, also behind the ReLU
            cast(torch.Tensor, last.weight)[gone] = 0
            cast(torch.Tensor, last.bias)[gone] = 0
    x = torch.randn(3, 3, 16, 16)
    # Flattened maps are normalized once more, which moves zeros; it has to keep them too.
    mean = cast(torch.Tensor, cast(nn.Sequential, model[3])[1].running_mean)
    with torch.no_grad():
        mean.zero_()
        cast(nn.BatchNorm1d, cast(nn.Sequential, model[3])[1]).bias.zero_()
    before = model(x)
    parameters = sum(p.numel() for p in model.parameters())
    assert mm.remove_filters(model, remaining) is model
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)
    removed = any(len(left) < LAYERS[name] for name, left in remaining.items())
    assert (sum(p.numel() for p in model.parameters()) < parameters) == removed


def test_a_new_model_made_narrow_takes_the_weights_of_another() -> None:
    remaining = {"0.0": [5, 1], "2.1.0": [0, 3, 6], "3.2": [2]}
    model = mm.remove_filters(chain(), remaining)
    other = chain()
    mm.remove_filters(other, remaining)
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(other(x), model(x))
    assert cast(nn.Conv2d, model.get_submodule("1.1.0")).in_channels == 8
    assert cast(nn.Linear, model.get_submodule("3.2")).in_features == 12


def test_the_filters_left_are_those_that_were_asked_for() -> None:
    torch.manual_seed(0)
    model = chain()
    weight = cast(nn.Conv2d, model.get_submodule("2.1.0")).weight.detach().clone()
    mm.remove_filters(model, {"2.1.0": [4, 1], "1.1.0": [0, 2, 3]})
    inputs = [i for i in range(20) if i % 5 in (0, 2, 3)]  # the channel is inside
    assert torch.equal(cast(nn.Conv2d, model.get_submodule("2.1.0")).weight, weight[[1, 4]][:, inputs])


def test_channels_are_followed_through_what_keeps_them_apart() -> None:
    four = torch.arange(4)
    shuffle = nn.ChannelShuffle(2)
    for module in (nn.ReLU(), nn.Tanh(), mm.Sign(), mm.QuantizedReLU(3), nn.MaxPool2d(3, 2, 1), nn.PReLU(), nn.GELU()):
        assert torch.equal(cast(torch.Tensor, origins_through(module, 4, False)), four), module
    moved = cast(torch.Tensor, origins_through(shuffle, 4, False))
    x = torch.rand(1, 4, 2, 2)
    assert torch.equal(shuffle(x), x[:, moved])
    for module in (nn.Softmax(1), nn.LocalResponseNorm(3), nn.PReLU(4), nn.LayerNorm(8), nn.GroupNorm(2, 4)):
        assert origins_through(module, 4, False) is None, module


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.convolution(x)


def _with(*between: nn.Module) -> nn.Sequential:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), *between, nn.Conv2d(4, 4, 3), *head)


def _tied(layer: nn.Conv2d) -> nn.Sequential:
    """Two layers of one weight, which would be two weights behind its removal."""
    other = nn.Conv2d(4, 4, 3)
    other.weight = layer.weight
    return nn.Sequential(layer, other)


class _Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def _doubled(layer: nn.Module, name: str) -> nn.Module:
    return nn.utils.parametrize.register_parametrization(layer, name, _Twice())


@pytest.mark.parametrize(
    ("model", "remaining", "message"),
    [
        (_with(nn.ReLU()), {"3": [0]}, "unknown layer with filters in Sequential '3'"),
        (_with(nn.ReLU()), {"0": [4]}, r"keep\['0'\] is \[4\]; expected some of the filters 0 to 3"),
        (_with(nn.ReLU()), {"0": []}, "each once"),
        (_with(nn.ReLU()), {"0": [1, 1]}, "each once"),
        (_with(nn.ReLU()), {"5": [1]}, "they are the output"),
        (_with(Residual()), {"0": [1]}, "of the Residual that follows, it does not keep channels apart"),
        (_with(nn.Softmax(1)), {"0": [1]}, "of the Softmax that follows"),
        (_with(nn.Conv2d(4, 4, 3, groups=2)), {"0": [1]}, "2 groups"),
        (_with(nn.Conv2d(4, 4, 3, groups=2)), {"1": [1]}, "filters of 1 cannot be removed: it has 2 groups"),
        (_with(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))), {"0": [1]}, "computed from another"),
        (_with(_doubled(nn.BatchNorm2d(4), "weight")), {"0": [1]}, "of the ParametrizedBatchNorm2d .* computed from"),
        (_with(_doubled(nn.Conv2d(4, 4, 3), "bias")), {"1": [1]}, "filters of 1 cannot be removed: .* computed from"),
        (_with(_tied(nn.Conv2d(4, 4, 3))), {"1.0": [1]}, "filters of 1.0 cannot be removed: it shares a weight"),
        (_with(_tied(nn.Conv2d(4, 4, 3))), {"0": [1]}, "of the Conv2d that follows, it shares a weight"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 2)), {"0": [1]}, "not flattened"),
    ],
)
def test_what_cannot_be_removed_is_refused_and_nothing_changes(
    model: nn.Sequential, remaining: dict[str, list[int]], message: str
) -> None:
    before = {name: value.shape for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        mm.remove_filters(model, remaining)
    assert {name: value.shape for name, value in model.state_dict().items()} == before


def test_networks_that_sum_their_states_are_refused() -> None:
    model = mm.create_model("resnet20(depth=3, width=4)", in_channels=1)
    with pytest.raises(ValueError, match="layer with filters in UnrolledNetwork"):
        mm.remove_filters(model, {"body.0.layers.0.block.branch.0": [0]})
    with pytest.raises(TypeError, match="neither a network with stem, .* expected an example"):
        mm.remove_filters(Residual(), {"convolution": [0]})


def test_a_published_network_is_narrowed() -> None:
    torch.manual_seed(0)
    model = mm.models.convnet8().eval()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    mm.harden(model, mm.Sign())
    mm.remove_filters(model, {name: range(0, 16, 3) for name in names})
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert {cast(nn.Conv2d, model.get_submodule(name)).out_channels for name in names} == {6}
