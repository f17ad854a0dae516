"""Standardized weights and operator norms, from the matrices of the maps."""

import copy
import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from minimand._support.torch.torchvision import require_timm
from minimand.layers.normalized_weight import operator_norm, weight_standardization

CONVOLUTIONS = {
    "padded": lambda: nn.Conv2d(3, 5, 3, padding=1),
    "strided": lambda: nn.Conv2d(3, 5, 3, 2, padding=1),
    "grouped, dilated": lambda: nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2),
    "patches": lambda: nn.Conv2d(3, 4, 8, 8),
    "circular, of one dimension": lambda: nn.Conv1d(3, 4, 3, padding=1, padding_mode="circular"),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_of_operator_norm_1_has_1_as_its_largest_singular_value(kind: str) -> None:
    torch.manual_seed(0)
    convolution = operator_norm(CONVOLUTIONS[kind]().double(), size=6)
    side = 8 if kind == "patches" else 6
    shape = (convolution.in_channels, *[side] * (convolution.weight.ndim - 2))
    for _ in range(1500):
        convolution(torch.zeros(1, *shape, dtype=torch.double))
    convolution.eval()
    units = torch.eye(torch.Size(shape).numel(), dtype=torch.double).reshape(-1, *shape)
    with torch.no_grad():
        matrix = (convolution(units) - convolution(torch.zeros_like(units))).flatten(1)
        reshaped = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
    assert float(torch.linalg.svdvals(matrix)[0]) == pytest.approx(1, rel=1e-6)
    if kind != "patches":  # whose map is the matrix
        assert abs(float(reshaped) - 1) > 0.03
    x = torch.randn(2, *shape, dtype=torch.double)
    assert torch.equal(convolution(x), convolution(x))


def test_a_norm_of_1_takes_no_part_of_the_gradient_along_the_weight() -> None:
    """f(w / |w|) does not change with the length of w, once the vector has been found."""
    convolution = operator_norm(nn.Conv2d(3, 5, 3, padding=1).double(), size=6).eval()
    original = cast(Any, convolution).parametrizations.weight.original
    convolution(torch.randn(2, 3, 6, 6).double()).square().sum().backward()
    assert (original.grad * original).sum().abs() < 1e-10 * original.grad.norm() * original.norm()


@pytest.mark.parametrize("make", [lambda: nn.Linear(40, 30), lambda: nn.Conv2d(6, 30, 3), lambda: nn.Conv1d(8, 30, 3)])
def test_filters_have_mean_0_and_variance_1_over_fan_in(make: Any) -> None:
    layer = weight_standardization(make().double(), gamma=1.5)
    rows = layer.weight.flatten(1)
    fan_in = rows.shape[1]
    torch.testing.assert_close(rows.mean(1), torch.zeros(30).double(), rtol=0, atol=1e-15)
    variance = torch.full((30,), 1.5**2 / fan_in).double()
    torch.testing.assert_close(rows.var(1, correction=0), variance, rtol=1e-4, atol=0)
    original = layer.parametrizations.weight.original
    torch.manual_seed(0)
    (layer.weight * torch.randn_like(layer.weight)).sum().backward()
    # No gradient in what the weight does not depend on: the mean of a filter, and, but for eps, its length.
    steepest = original.grad.norm()
    assert original.grad.flatten(1).sum(1).abs().max() < 1e-12 * steepest
    assert (original.grad * original).flatten(1).sum(1).abs().max() < 1e-4 * steepest * original.norm()


def test_standardized_convolutions_are_those_of_timm() -> None:
    require_timm()
    from timm.layers.std_conv import ScaledStdConv2d

    torch.manual_seed(0)
    theirs = ScaledStdConv2d(4, 6, 3, padding=1, groups=2, gamma=1.7128585)
    nn.init.normal_(theirs.gain)
    ours = nn.Conv2d(4, 6, 3, padding=1, groups=2)
    ours.load_state_dict({"weight": theirs.weight, "bias": theirs.bias})
    weight_standardization(ours, 1.7128585)
    cast(Any, ours).parametrizations.weight[0].gain.data.copy_(theirs.gain)
    x = torch.randn(2, 4, 7, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_variance_is_kept_through_activations_with_their_gamma() -> None:
    """Layers of ReLU without normalization; a gamma of 1 lets it fall to (1 - 1 / pi) / 2 in each."""
    torch.manual_seed(0)
    for gamma, factor in ((1.7128585, 1.0), (1.0, 0.5 - 0.5 / math.pi)):
        x: Tensor = weight_standardization(nn.Linear(1024, 1024, bias=False))(torch.randn(256, 1024))
        for _ in range(4):
            x = weight_standardization(nn.Linear(1024, 1024, bias=False), gamma)(x.relu())
        assert float(x.var(1).mean()) == pytest.approx(factor**4, rel=0.2)


def test_copies_are_on_their_own() -> None:
    for wrap in (operator_norm, weight_standardization):
        one = wrap(nn.Conv2d(3, 4, 3))
        two = copy.deepcopy(one)
        x = torch.randn(1, 3, 5, 5)
        with torch.no_grad():
            cast(Any, one).parametrizations.weight.original.add_(torch.randn(4, 3, 3, 3))
        assert not torch.allclose(one(x), two(x))
        two.load_state_dict(one.state_dict())
        assert torch.equal(one.eval()(x), two.eval()(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: weight_standardization(nn.Conv2d(4, 4, 1, groups=4)),
            "filters of one weight; standardized they are 0",
        ),
        (
            lambda: weight_standardization(nn.ConvTranspose2d(4, 4, 2)),
            "expected a linear or convolutional layer, not a tr",
        ),
        (lambda: operator_norm(nn.Linear(3, 3)), "expected a convolutional layer"),  # type: ignore[type-var]
    ],
)
def test_bad_input(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
